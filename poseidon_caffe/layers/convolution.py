"""Convolution: sliding inner products, Caffe's central layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.protocols import ConvKernel
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.convolution_base import ConvolutionBase
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.rectifying import Rectifying
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["Convolution"]


@register("Convolution")
class Convolution(Rectifying, ConvolutionBase):
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

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._bias_is_done = False

    def weights_shape(self, channels: int) -> Shape:
        """(num_output, C / group, *kernel)."""
        p = self.param.convolution_param
        return (p.num_output, channels // p.group, *self._windows.kernel)

    def geometry_of(self, x_shape: Shape) -> ConvGeometry:
        """The layer's own convolution."""
        p = self.param.convolution_param
        return ConvGeometry(
            x_shape=x_shape,
            num_output=p.num_output,
            kernel=self._windows.kernel,
            stride=self._windows.stride,
            pad=self._windows.pad,
            dilation=self._windows.dilation,
            group=p.group,
            bias=p.bias_term,
            relu=self.fused_relu,
        )

    def forward_one(self, kernel: ConvKernel, x: Array, y: Array) -> None:
        """Convolve one bottom (and apply a fused ReLU)."""
        weights = self.blobs[0]
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        kernel.forward(x, weights.data, bias, y, weights.key)

    def backward_data_one(self, kernel: ConvKernel, dy: Array, dx: Array) -> None:
        """Gradient of one bottom."""
        kernel.backward_data(dy, self.blobs[0].data, dx, self.blobs[0].key)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of all; where the ReLU's is begun with, the bias' comes of that."""
        if self.rectifies_backward:
            wanted = len(self.blobs) > 1 and self.param_propagate_down[1]
            bias = self.blobs[1] if wanted else None
            self._bias_is_done = self.rectify_diff(top[0], bias, self._y_shape)
        super().backward(top, propagate_down, bottom)

    def backward_params_one(self, kernel: ConvKernel, x: Array, dy: Array) -> None:
        """Add one bottom's part to the gradients of weights and bias."""
        wanted = list(self.param_propagate_down)
        if self._bias_is_done:
            wanted[1] = False
        grads, accumulate = param_gradients(self.blobs, wanted)
        dw, db = grads[0], grads[1] if len(grads) > 1 else None
        if dw is not None:
            kernel.backward_weights(x, dy, dw, db, accumulate=accumulate)
        elif db is not None:
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    # -- fusing ------------------------------------------------------------------
    def fuse_relu(self, slope: float) -> None:
        """Apply a ReLU of this negative slope in forward from now on."""
        super().fuse_relu(slope)
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
