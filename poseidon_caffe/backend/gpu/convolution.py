"""Convolution without cuDNN: columns and matrix products, or directly by channel.

The windows of some images at a time are laid out as a matrix in scratch memory, in
the order that suits the images: channels-last as (images, windows, group, places of
the kernel, channels), where neighbours in the image are neighbours in the columns
(the weights are put into that order, they are few), plain as (channels, places of the
kernel, images, windows).  One product for the chunk, or one a group, reads and writes
tops of either layout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from poseidon_caffe.backend.geometry import ColumnGeometry, ConvGeometry
from poseidon_caffe.backend.gpu.columns import ColumnSteps
from poseidon_caffe.backend.gpu.convolution_parts import ConvolutionParts
from poseidon_caffe.backend.gpu.depthwise import DepthwiseConv
from poseidon_caffe.backend.gpu.device import Operand
from poseidon_caffe.backend.gpu.image_planes import ImagePlanes
from poseidon_caffe.backend.protocols.kernels import ConvKernel
from poseidon_caffe.types import Array

__all__ = ["COLUMN_BYTES", "GpuConv", "GpuConvolution"]

COLUMN_BYTES = 128 << 20
"""Scratch memory for columns; a single image may need more."""


class Product(NamedTuple):
    """The sizes of one group's product: rows of the weights, and their length."""

    group: int
    rows: int
    places: int


class GpuConv:
    """`ConvKernel` for one geometry by columns; arrays may have any strides.

    Args:
        geometry: shapes and settings.
        ops: the device and its scratch memory.
        column_bytes: how much of that the columns may take.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        ops: ConvolutionParts,
        column_bytes: int = COLUMN_BYTES,
    ) -> None:
        self.geometry = g = geometry
        self._ops = ops
        self._column_bytes = column_bytes
        self._windows = ColumnGeometry(g.kernel, g.stride, g.pad, g.dilation)
        self._counts = g.y_shape[2:]
        self._taps = math.prod(g.kernel)
        self._each = g.x_shape[1] // g.group
        self._sizes = Product(g.group, g.num_output // g.group, self._each * self._taps)
        #: The image is its own matrix of columns.
        self._direct = (
            self._taps == 1
            and not any(g.pad)
            and all(s == 1 for s in g.stride)
            and g.x_shape[2:] == self._counts
        )

    # -- the three products --------------------------------------------------------
    def forward(
        self, x: Array, w: Array, b: Array | None, y: Array, key: int | None = None
    ) -> None:
        """y = relu?(conv(x, w) + b)."""
        if not y.size:
            return
        source = self._ops.image_planes("x", x)
        weights = self._weights(w, x.dtype, taps_first=self._taps_first(source))
        with self._ops.written_image_planes("y", y) as top:
            for first, count in self._chunks(source):
                columns = self._columns(source.part(first, count))
                self._multiply(weights, columns, top.part(first, count), back=False)
            self._ops.add_bias(top.array, b, self.geometry.relu)

    def backward_data(
        self, dy: Array, w: Array, dx: Array, key: int | None = None
    ) -> None:
        """dx = the gradient with respect to x."""
        if not dx.size:
            return
        top = self._ops.image_planes("y", dy)
        with self._ops.written_image_planes("x", dx) as image:
            weights = self._weights(w, dy.dtype, taps_first=self._taps_first(image))
            for first, count in self._chunks(image):
                part, given = image.part(first, count), top.part(first, count)
                if self._direct:
                    self._multiply(weights, given, part, back=True)
                    continue
                columns, steps = self._room(part)
                self._multiply(weights, given, columns, back=True)
                self._ops.fold(columns.array, part, self._windows, self._counts, steps)

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""
        source, top = self._ops.image_planes("x", x), self._ops.image_planes("y", dy)
        taps_first = self._taps_first(source)
        target = dw
        if taps_first:
            target = self._ops.scratch.take("conv gradient", dw.shape, dw.dtype)
        beta = float(accumulate and not taps_first)
        if not dy.size and not beta:
            self._ops.memory.clear(target)
        for first, count in self._chunks(source) if dy.size else []:
            columns = self._columns(source.part(first, count))
            given = self._ops.joined_image_planes("dy", top.part(first, count))
            columns = self._ops.joined_image_planes("columns", columns)
            self._correlate(given, columns, target, beta)
            beta = 1.0
        if taps_first:
            self._store(target, dw, x.dtype, accumulate=accumulate)
        if db is not None:
            self._ops.bias_gradient(dy, db, accumulate=accumulate)

    # -- columns ---------------------------------------------------------------------
    def _chunks(self, image: ImagePlanes) -> list[tuple[int, int]]:
        """(first, count) of the images to do at a time."""
        images = image.images
        each = self._sizes.group * self._sizes.places * math.prod(self._counts)
        step = max(1, self._column_bytes // max(each * image.array.itemsize, 1))
        return [(i, min(step, images - i)) for i in range(0, images, step)]

    def _taps_first(self, image: ImagePlanes) -> bool:
        """Whether columns have the kernel's places before the channels."""
        return image.channels_last and self._taps > 1 and self._each > 1

    def _room(self, image: ImagePlanes) -> tuple[ImagePlanes, ColumnSteps]:
        """Scratch memory for the columns of some images, as (N, places, windows)."""
        n, windows, s = image.images, math.prod(self._counts), self._sizes
        rows = s.group * s.places
        dtype: np.dtype = image.array.dtype
        memory = self._ops.scratch.take("columns", (n * rows * windows,), dtype)
        if image.channels_last:
            array = memory.reshape((n, windows, rows)).transpose((0, 2, 1))
            lie = ColumnSteps(windows * rows, rows, s.places, 1, self._each, self._each)
            steps = (windows * rows, 1, rows)
        else:
            wide = n * windows
            array = memory.reshape((rows, n, windows)).transpose((1, 0, 2))
            lie = ColumnSteps(
                windows, 1, s.places * wide, self._taps * wide, wide, self._each
            )
            steps = (windows, wide, 1)
        return ImagePlanes(array, n, rows, windows, steps), lie

    def _columns(self, image: ImagePlanes) -> ImagePlanes:
        """The windows of some images: (N, group * places, windows)."""
        if self._direct:
            return image
        columns, lie = self._room(image)
        self._ops.unfold(image, columns.array, self._windows, self._counts, lie)
        return columns

    # -- weights ---------------------------------------------------------------------
    def _weights(self, w: Array, dtype: np.dtype, *, taps_first: bool) -> Array:
        """(outputs, places) in the columns' order, as the activations' type."""
        shape = (w.shape[0], self._each, self._taps)
        if not taps_first and w.dtype == dtype:
            return w.reshape((shape[0], self._sizes.places))
        source = w.reshape(shape)
        if taps_first:
            source = source.transpose((0, 2, 1))
        twin = self._ops.scratch.take("conv weights", source.shape, dtype)
        self._ops.copy(source, twin)
        return twin.reshape((shape[0], self._sizes.places))

    def _store(
        self, product: Array, dw: Array, dtype: np.dtype, *, accumulate: bool
    ) -> None:
        """dw (+)= a gradient whose places come before the channels."""
        rows = dw.shape[0]
        if accumulate:
            self._ops.kernels("convolution").each(
                "add_taps", dtype, dw.size, product, dw, dw.size, self._each, self._taps
            )
            return
        shown = product.reshape((rows, self._taps, self._each)).transpose((0, 2, 1))
        self._ops.copy(shown, dw.reshape((rows, self._each, self._taps)))

    # -- products --------------------------------------------------------------------
    def _multiply(
        self, weights: Array, source: ImagePlanes, target: ImagePlanes, *, back: bool
    ) -> None:
        """target = weights source for every group; ``back``: weights transposed.

        A call does all images of a group, or all groups of an image (which are one
        where image follows image), whichever takes fewer calls.
        """
        s = self._sizes
        rows, deep = (s.places, s.rows) if back else (s.rows, s.places)
        joined = source.joined and target.joined
        places = target.places * (target.images if joined else 1)
        images = 1 if joined else target.images
        if images >= s.group:
            for group in range(s.group):
                left = weights[group * s.rows :]
                self._ops.device.gemm(
                    *_product(
                        Operand(left, s.places, transposed=back),
                        _matrix(source, 0, group * deep, places, source.steps[0]),
                        _matrix(target, 0, group * rows, places, target.steps[0]),
                        (rows, places, deep),
                    ),
                    images,
                )
            return
        for image in range(images):
            self._ops.device.gemm(
                *_product(
                    Operand(weights, s.places, s.rows * s.places, transposed=back),
                    _matrix(source, image, 0, places, source.steps[1] * deep),
                    _matrix(target, image, 0, places, target.steps[1] * rows),
                    (rows, places, deep),
                ),
                s.group,
            )

    def _correlate(
        self, top: ImagePlanes, columns: ImagePlanes, dw: Array, beta: float
    ) -> None:
        """dw = beta dw + top columns^T for every group: all of them at once."""
        s = self._sizes
        places = columns.places * columns.images
        left = _matrix(top, 0, 0, places, top.steps[1] * s.rows)
        right = _matrix(columns, 0, 0, places, columns.steps[1] * s.places)
        out = Operand(dw, s.places, s.rows * s.places)
        self._ops.device.gemm(
            s.rows, s.places, places, 1.0, left, _flipped(right), beta, out, s.group
        )


def _matrix(
    planes: ImagePlanes, image: int, channel: int, places: int, step: int
) -> Operand:
    """(channels, places) from an image and a channel on."""
    array = planes.at(image, channel)
    if planes.steps[2] == 1:
        return Operand(array, max(planes.steps[1], places), step)
    return Operand(array, planes.steps[2], step, transposed=True)


def _product(
    left: Operand, right: Operand, out: Operand, sizes: tuple[int, int, int]
) -> tuple[int, int, int, float, Operand, Operand, float, Operand]:
    """The arguments for out = left right, whichever way ``out`` lies."""
    m, n, k = sizes
    if out.transposed:
        return n, m, k, 1.0, _flipped(right), _flipped(left), 0.0, _flipped(out)
    return m, n, k, 1.0, left, right, 0.0, out


def _flipped(operand: Operand) -> Operand:
    """The transpose of a matrix."""
    return Operand(
        operand.array, operand.stride, operand.step, transposed=not operand.transposed
    )


class GpuConvolution(ConvolutionParts):
    """Makes convolution kernels."""

    def convolution(self, geometry: ConvGeometry) -> ConvKernel:
        """A convolution kernel for ``geometry``."""
        return self.plain_convolution(geometry)

    def plain_convolution(self, geometry: ConvGeometry) -> ConvKernel:
        """A kernel that needs no cuDNN."""
        if geometry.group > 1 and geometry.group == geometry.x_shape[1]:
            return DepthwiseConv(geometry, self)
        return GpuConv(geometry, self)
