"""What Convolution and Deconvolution share: settings, parameters, several bottoms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.protocols import ConvKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.windows import Windows, read_windows
from poseidon_caffe.types import Array, Shape

__all__ = ["ConvolutionBase"]


class ConvolutionBase(Layer):
    """Sliding windows with weights over (N, C, *spatial), or over its transpose.

    A type says how it uses the convolution kernel: `weights_shape`, `geometry_of`,
    `top_shape`, and the three passes over one pair of bottom and top.
    """

    storage = Storage.HALF
    backward_reads_top = False

    min_bottom = 1
    min_top = 1
    equal_bottom_top = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._axis = 1
        self._windows = Windows((), (), (), ())
        self._x_shape: Shape = ()
        self._y_shape: Shape = ()
        self._geometry: ConvGeometry | None = None
        self._kernel: ConvKernel | None = None
        self._x_view = PlainView(self.ops, context.dtype)
        self._y_view = PlainView(self.ops, context.dtype)

    # -- what a type fills in ------------------------------------------------------
    def weights_shape(self, channels: int) -> Shape:
        """Shape of the weights for so many input channels."""
        raise LayerError(self.describe("this layer type has no weights"))

    def geometry_of(self, x_shape: Shape) -> ConvGeometry:
        """The convolution to make a kernel of, for a bottom (N, C, *spatial)."""
        raise LayerError(self.describe("this layer type has no kernel"))

    def top_shape(self, geometry: ConvGeometry) -> Shape:
        """(N, num_output, *spatial) of the tops."""
        return geometry.y_shape

    def forward_one(self, kernel: ConvKernel, x: Array, y: Array) -> None:
        """y from x."""

    def backward_data_one(self, kernel: ConvKernel, dy: Array, dx: Array) -> None:
        """dx from dy."""

    def backward_params_one(self, kernel: ConvKernel, x: Array, dy: Array) -> None:
        """Add one bottom's part to the gradients of weights and bias."""

    # -- the layer -------------------------------------------------------------------
    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the settings and make weights and bias."""
        p = self.param.convolution_param
        self._axis = bottom[0].canonical_axis(p.axis)
        shape = bottom[0].shape
        self._windows = read_windows(self, p, len(shape) - self._axis - 1)
        channels = shape[self._axis]
        if p.num_output < 1:
            raise LayerError(self.describe("num_output must be given and positive"))
        if channels < 1:
            raise self.shape_error("needs at least one channel", bottom)
        if p.group < 1 or channels % p.group or p.num_output % p.group:
            problem = (
                f"group {p.group} must divide the {channels} input channels "
                f"and num_output {p.num_output}"
            )
            raise self.shape_error(problem, bottom)
        self.add_param(self.weights_shape(channels), p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; make a new kernel if the geometry changed."""
        shape = bottom[0].shape
        for blob in bottom[1:]:
            if blob.shape != shape:
                raise self.shape_error("all bottoms must have one shape", bottom)
        self._check(shape, bottom)
        self._x_shape = (math.prod(shape[: self._axis]), *shape[self._axis :])
        geometry = self.geometry_of(self._x_shape)
        self._y_shape = self.top_shape(geometry)
        if min(self._y_shape[2:], default=1) < 1:
            problem = (
                f"the kernel {geometry.kernel} (dilation {geometry.dilation}) exceeds "
                f"the padded input; output would be {self._y_shape[2:]}"
            )
            raise self.shape_error(problem, bottom)
        for blob in top:
            blob.reshape((*shape[: self._axis], *self._y_shape[1:]))
        if geometry != self._geometry:
            self._geometry, self._kernel = geometry, None

    def _check(self, shape: Shape, bottom: Sequence[Blob]) -> None:
        """The bottom must keep the axes and channels that the weights were made for."""
        weights = self.blobs[0].shape
        if len(shape) != self._axis + len(weights) - 1:
            problem = f"needs {self._axis + len(weights) - 1} axes"
            raise self.shape_error(problem, bottom)
        if shape[self._axis] != self.input_channels:
            problem = f"needs {self.input_channels} channels for weights {weights}"
            raise self.shape_error(problem, bottom)

    @property
    def input_channels(self) -> int:
        """Channels of the bottoms that the weights were made for."""
        return self.blobs[0].shape[1] * int(self.param.convolution_param.group)

    def _ready(self) -> ConvKernel:
        """The kernel, made at first use so that nets are built quickly."""
        assert self._geometry is not None
        if self._kernel is None:
            self._kernel = self.ops.convolution(self._geometry)
        return self._kernel

    def _shown(self, view: PlainView, array: Array, shape: Shape) -> Array:
        """``array`` as the kernel's (N, C, *spatial)."""
        return array if array.shape == shape else view.read(array, shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute every top from its bottom."""
        kernel = self._ready()
        for x_blob, y_blob in zip(bottom, top, strict=True):
            x = self._shown(self._x_view, x_blob.data, self._x_shape)
            y = y_blob.data
            if y.shape == self._y_shape:
                self.forward_one(kernel, x, y)
            else:
                out = self._y_view.target(y, self._y_shape)
                self.forward_one(kernel, x, out)
                self._y_view.write_back(out, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of weights and bias over all bottoms, then of each bottom."""
        kernel = self._ready()
        for y_blob, x_blob, down in zip(top, bottom, propagate_down, strict=True):
            dy = self._shown(self._y_view, y_blob.diff, self._y_shape)
            if any(self.param_propagate_down):
                x = self._shown(self._x_view, x_blob.data, self._x_shape)
                self.backward_params_one(kernel, x, dy)
            if down and x_blob.shape == self._x_shape:
                self.backward_data_one(kernel, dy, x_blob.diff)
            elif down:
                dx = self._x_view.target(x_blob.diff, self._x_shape)
                self.backward_data_one(kernel, dy, dx)
                self._x_view.write_back(dx, x_blob.diff)
