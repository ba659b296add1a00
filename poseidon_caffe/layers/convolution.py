"""Convolution: sliding inner products, Caffe's central layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.protocols import ConvKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.windows import Windows, read_windows
from poseidon_caffe.types import Array, Shape

__all__ = ["Convolution"]


@register("Convolution")
class Convolution(Layer):
    """y[n, o] = bias[o] + sum over channels c and offsets k of w[o, c, k] x[n, c, .].

    Bottoms: any number of (N, C, *spatial), all of one shape.
    Tops: as many (N, num_output, *spatial'), where an axis of size s becomes
    floor((s + 2 pad - dilation (kernel - 1) - 1) / stride) + 1.
    Params: weights (num_output, C / group, *kernel); bias (num_output,) unless
    ``bias_term: false``.

    ``axis`` moves the channel axis: the axes before it are all batch.

    Caffe parity: exact; N-D kernels, groups and dilation included.  ``engine`` and
    ``force_nd_im2col`` choose among Caffe's implementations and change nothing here.
    """

    backward_reads_top = False

    min_bottom = 1
    min_top = 1
    equal_bottom_top = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        #: Negative slope of a ReLU that forward applies too, or None.
        self.fused_relu: float | None = None
        self._axis = 1
        self._windows = Windows((), (), (), ())
        self._geometry: ConvGeometry | None = None
        self._kernel: ConvKernel | None = None
        self._x_view = PlainView(self.ops, context.dtype)
        self._y_view = PlainView(self.ops, context.dtype)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the settings and make weights and bias."""
        p = self.param.convolution_param
        self._axis = bottom[0].canonical_axis(p.axis)
        shape = bottom[0].shape
        self._windows = read_windows(self, p, len(shape) - self._axis - 1)
        channels = shape[self._axis]
        if p.num_output < 1:
            raise LayerError(self.describe("num_output must be given and positive"))
        if p.group < 1 or channels % p.group or p.num_output % p.group:
            problem = (
                f"group {p.group} must divide the {channels} input channels "
                f"and num_output {p.num_output}"
            )
            raise self.shape_error(problem, bottom)
        weights = (p.num_output, channels // p.group, *self._windows.kernel)
        self.add_param(weights, p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; make a new kernel if the geometry changed."""
        shape = bottom[0].shape
        for blob in bottom[1:]:
            if blob.shape != shape:
                raise self.shape_error("all bottoms must have one shape", bottom)
        self._check(shape, bottom)
        p = self.param.convolution_param
        batch = math.prod(shape[: self._axis])
        geometry = ConvGeometry(
            x_shape=(batch, *shape[self._axis :]),
            num_output=p.num_output,
            kernel=self._windows.kernel,
            stride=self._windows.stride,
            pad=self._windows.pad,
            dilation=self._windows.dilation,
            group=p.group,
            bias=p.bias_term,
            relu=self.fused_relu,
        )
        if min(geometry.y_shape[2:], default=1) < 1:
            problem = (
                f"the kernel {geometry.kernel} (dilation {geometry.dilation}) exceeds "
                f"the padded input; output would be {geometry.y_shape[2:]}"
            )
            raise self.shape_error(problem, bottom)
        for blob in top:
            blob.reshape((*shape[: self._axis], *geometry.y_shape[1:]))
        if geometry != self._geometry:
            self._geometry, self._kernel = geometry, None

    def _check(self, shape: Shape, bottom: Sequence[Blob]) -> None:
        """The bottom must keep the axes and channels that the weights were made for."""
        weights, group = self.blobs[0].shape, self.param.convolution_param.group
        if len(shape) != self._axis + len(weights) - 1:
            problem = f"needs {self._axis + len(weights) - 1} axes"
            raise self.shape_error(problem, bottom)
        if shape[self._axis] != weights[1] * group:
            problem = f"needs {weights[1] * group} channels for weights {weights}"
            raise self.shape_error(problem, bottom)

    def _ready(self) -> tuple[ConvKernel, ConvGeometry]:
        """The kernel, made at first use so that nets are built quickly."""
        assert self._geometry is not None
        if self._kernel is None:
            self._kernel = self.ops.convolution(self._geometry)
        return self._kernel, self._geometry

    def _shown(self, view: PlainView, array: Array, shape: Shape) -> Array:
        """``array`` as the kernel's (N, C, *spatial)."""
        return array if array.shape == shape else view.read(array, shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Convolve every bottom (and apply a fused ReLU)."""
        kernel, geometry = self._ready()
        weights = self.blobs[0]
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        for x_blob, y_blob in zip(bottom, top, strict=True):
            x = self._shown(self._x_view, x_blob.data, geometry.x_shape)
            y = y_blob.data
            if y.shape == geometry.y_shape:
                kernel.forward(x, weights.data, bias, y, weights.key)
            else:
                out = self._y_view.target(y, geometry.y_shape)
                kernel.forward(x, weights.data, bias, out, weights.key)
                self._y_view.write_back(out, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of weights and bias over all bottoms, then of each bottom."""
        kernel, geometry = self._ready()
        weights = self.blobs[0]
        for y_blob, x_blob, down in zip(top, bottom, propagate_down, strict=True):
            dy = self._shown(self._y_view, y_blob.diff, geometry.y_shape)
            if any(self.param_propagate_down):
                x = self._shown(self._x_view, x_blob.data, geometry.x_shape)
                self._backward_params(kernel, x, dy)
            if down and x_blob.shape == geometry.x_shape:
                kernel.backward_data(dy, weights.data, x_blob.diff, weights.key)
            elif down:
                dx = self._x_view.target(x_blob.diff, geometry.x_shape)
                kernel.backward_data(dy, weights.data, dx, weights.key)
                self._x_view.write_back(dx, x_blob.diff)

    def _backward_params(self, kernel: ConvKernel, x: Array, dy: Array) -> None:
        """Add one bottom's part to the gradients of weights and bias."""
        grads, accumulate = param_gradients(self.blobs, self.param_propagate_down)
        dw, db = grads[0], grads[1] if len(grads) > 1 else None
        if dw is not None:
            kernel.backward_weights(x, dy, dw, db, accumulate=accumulate)
        elif db is not None:
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    # -- fusing ------------------------------------------------------------------
    @property
    def can_fuse_relu(self) -> bool:
        """Whether forward can also do the ReLU that follows in place."""
        return True

    def fuse_relu(self, slope: float) -> None:
        """Apply a ReLU of this negative slope in forward from now on.

        The ReLU's own forward is then to be skipped; its backward still runs.
        """
        self.fused_relu = slope
        if self._geometry is not None:
            self._geometry, self._kernel = replace(self._geometry, relu=slope), None

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain, strided, grouped, dilated, rectangular, 1-D, 3-D, moved axis."""
        fill = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'

        def conv(text: str, *bottoms: Shape) -> Example:
            shapes = bottoms or ((2, 4, 6, 7),)
            param = f"convolution_param {{ {text} {fill} }}"
            return Example(param, bottoms=shapes, num_top=len(shapes))

        return [
            conv("num_output: 3 kernel_size: 3"),
            conv("num_output: 3 kernel_size: 1"),
            conv("num_output: 3 kernel_size: 3 pad: 1 stride: 2 bias_term: false"),
            conv("num_output: 4 kernel_size: 3 group: 2 pad: 1"),
            conv("num_output: 4 kernel_size: 3 group: 4 pad: 1"),
            conv("num_output: 3 kernel_size: 3 dilation: 2 pad: 2"),
            conv(
                "num_output: 3 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 "
                "stride_h: 2 stride_w: 1"
            ),
            conv("num_output: 3 kernel_size: 3", (2, 2, 5, 5), (2, 2, 5, 5)),
            conv("num_output: 3 kernel_size: 3 pad: 1", (2, 4, 6)),
            conv("num_output: 2 kernel_size: 2", (1, 2, 3, 4, 3)),
            conv("num_output: 3 kernel_size: 2 axis: 2", (2, 2, 3, 5)),
            conv("num_output: 3 kernel_size: 2 axis: 2", (2, 1, 3, 4, 4)),
        ]
