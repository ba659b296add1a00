"""Convolutions whose groups have one input channel each: directly, without columns."""

from __future__ import annotations

import math

from poseidon_caffe.backend.geometry import ColumnGeometry, ConvGeometry
from poseidon_caffe.backend.gpu.columns import axis_arguments
from poseidon_caffe.backend.gpu.convolution_parts import ConvolutionParts, splits_for
from poseidon_caffe.backend.gpu.device import Argument
from poseidon_caffe.backend.gpu.image_planes import ImagePlanes
from poseidon_caffe.types import Array

__all__ = ["DepthwiseConv"]


class DepthwiseConv:
    """`ConvKernel` for one geometry with group = channels; any strides.

    Weights are taken as they are stored, also where activations have 16 bits.

    Args:
        geometry: shapes and settings.
        ops: the device and its scratch memory.
    """

    def __init__(self, geometry: ConvGeometry, ops: ConvolutionParts) -> None:
        self.geometry = g = geometry
        self._ops = ops
        self._windows = ColumnGeometry(g.kernel, g.stride, g.pad, g.dilation)
        self._counts = g.y_shape[2:]
        self._places = math.prod(self._counts)
        self._taps = math.prod(g.kernel)
        self._each = g.num_output // g.group

    def _axes(self, image: ImagePlanes) -> tuple[int, list[Argument]]:
        sizes = self.geometry.x_shape[2:]
        return axis_arguments(self._windows, sizes, self._counts, image.steps[2])

    def forward(
        self, x: Array, w: Array, b: Array | None, y: Array, key: int | None = None
    ) -> None:
        """y = relu?(conv(x, w) + b)."""
        image, slope = self._ops.image_planes("x", x), self.geometry.relu
        axes, rows = self._axes(image)
        with self._ops.written_image_planes("y", y) as top:
            self._ops.kernels("convolution").each(
                f"depthwise_forward_{axes}", y.dtype, y.size, image.array, w, b,
                top.array, slope is not None, float(slope or 0.0), y.size,
                image.channels, top.places, self._each, self._taps,
                top.channels_last, *image.steps, *top.steps, *rows,
            )  # fmt: skip

    def backward_data(
        self, dy: Array, w: Array, dx: Array, key: int | None = None
    ) -> None:
        """dx = the gradient with respect to x."""
        top = self._ops.image_planes("y", dy)
        with self._ops.written_image_planes("x", dx) as image:
            axes, rows = self._axes(image)
            self._ops.kernels("convolution").each(
                f"depthwise_data_{axes}", dx.dtype, dx.size, top.array, w,
                image.array, dx.size, image.channels, image.places, self._each,
                self._taps, image.channels_last, *image.steps, *top.steps, *rows,
            )  # fmt: skip

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""
        image, top = self._ops.image_planes("x", x), self._ops.image_planes("y", dy)
        axes, rows = self._axes(image)
        lanes = 32 if image.channels_last and top.channels_last else 1
        tiles = -(-top.channels // lanes)
        count = top.images * top.places * lanes
        splits = splits_for(tiles * self._taps, count)
        direct = splits == 1
        sums = dw if direct else self._ops.scratch.take(
            "conv splits", (splits, dw.size), dw.dtype
        )  # fmt: skip
        self._ops.kernels("convolution").blocks(
            f"depthwise_weights_{axes}", dy.dtype, tiles * self._taps * splits,
            image.array, top.array, sums, top.images, top.channels, top.places,
            self._each, self._taps, lanes, splits, accumulate and direct,
            *image.steps, *top.steps, *rows,
        )  # fmt: skip
        if not direct:
            self._ops.add_splits(sums, dw, dy.dtype, splits, accumulate=accumulate)
        if db is not None:
            self._ops.bias_gradient(dy, db, accumulate=accumulate)
