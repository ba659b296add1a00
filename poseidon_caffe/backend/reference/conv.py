"""Convolution as im2col and a matrix product, one image at a time, N-D."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from poseidon_caffe.backend.geometry import ConvGeometry, window_spans
from poseidon_caffe.backend.reference.blas import blas_ready
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.types import Array, Shape

__all__ = ["ReferenceConv", "ReferenceConvolution"]


class ReferenceConv:
    """`ConvKernel` for one geometry; arrays may have any strides.

    ``relu`` is applied by forward only: whoever asks for the fusion hands the
    two backward calls a ``dy`` that already went through the ReLU's backward.

    Args:
        geometry: shapes and settings.
        workspace: scratch memory for the columns.
    """

    def __init__(self, geometry: ConvGeometry, workspace: Workspace) -> None:
        self.geometry = geometry
        self._workspace = workspace
        g = geometry
        self._spatial = g.y_shape[2:]
        self._group = g.group
        self._rows = g.x_shape[1] // g.group * math.prod(g.kernel)
        self._places = math.prod(self._spatial)
        spans = window_spans(self._spatial, g.kernel, g.stride, g.dilation)
        # The last window may stick out of the padded image (see `conv_output`).
        self._padded_sides = tuple(
            max(n + 2 * p, span)
            for n, p, span in zip(g.x_shape[2:], g.pad, spans, strict=True)
        )
        self._padded = self._padded_sides != g.x_shape[2:]
        self._interior = (
            slice(None),
            *(slice(p, p + n) for p, n in zip(g.pad, g.x_shape[2:], strict=True)),
        )

    # -- the three products ----------------------------------------------------
    def forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        y: Array,
        key: int | None = None,
    ) -> None:
        """y = relu?(conv(x, w) + b)."""
        weights = w.reshape(self._group, -1, self._rows)
        for image, top in zip(x, y, strict=True):
            columns = self._columns(image)
            if top.flags.c_contiguous:
                out = top.reshape(self._group, len(top) // self._group, self._places)
                np.matmul(weights, columns, out=out)
            else:
                top[...] = np.matmul(weights, columns).reshape(top.shape)
            if b is not None:
                np.add(top, b.reshape(-1, *[1] * len(self._spatial)), out=top)
            self._rectify(top)

    def backward_data(
        self,
        dy: Array,
        w: Array,
        dx: Array,
        key: int | None = None,
    ) -> None:
        """dx = the gradient with respect to x."""
        weights = w.reshape(self._group, -1, self._rows).swapaxes(1, 2)
        shape = (self._group, self._rows, self._places)
        columns = self._workspace.take("columns", shape, dx.dtype)
        for top, image in zip(dy, dx, strict=True):
            np.matmul(weights, self._matrix(top), out=columns)
            self._add_columns(columns, image)

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""
        if not accumulate:
            dw[...] = 0
        gradient = dw.reshape(self._group, -1, self._rows)
        product = np.empty_like(gradient)
        for image, top in zip(x, dy, strict=True):
            columns = self._columns(image)
            np.matmul(self._matrix(top), columns.swapaxes(1, 2), out=product)
            gradient += product
        if db is not None:
            axes = (0, *range(2, dy.ndim))
            total = dy.sum(axis=axes)
            if accumulate:
                db += total
            else:
                db[...] = total

    # -- columns -----------------------------------------------------------------
    def _matrix(self, top: Array) -> Array:
        """One image's top as (group, channels / group, places)."""
        each = top.shape[0] // self._group
        return blas_ready(top.reshape(self._group, each, self._places))

    def _padded_shape(self) -> Shape:
        return (self.geometry.x_shape[1], *self._padded_sides)

    def _columns(self, image: Array) -> Array:
        """(group, channels / group * kernel, places) of one image."""
        g = self.geometry
        if self._padded:
            padded = self._workspace.take("padded", self._padded_shape(), image.dtype)
            padded[...] = 0
            padded[self._interior] = image
            image = padded
        taps = zip(image.strides[1:], g.dilation, strict=True)
        steps = zip(image.strides[1:], g.stride, strict=True)
        windows = as_strided(
            image,
            (image.shape[0], *g.kernel, *self._spatial),
            (image.strides[0], *(s * d for s, d in taps), *(s * t for s, t in steps)),
            writeable=False,
        )
        shape = (self._group, self._rows, self._places)
        if math.prod(g.kernel) == 1 and image.shape[1:] == self._spatial:
            # A 1x1 convolution: the image is its own column matrix.
            return blas_ready(windows.reshape(shape))
        columns = self._workspace.take("columns", windows.shape, image.dtype)
        columns[...] = windows
        return columns.reshape(shape)

    def _add_columns(self, columns: Array, image: Array) -> None:
        """Overwrite ``image`` with the sum of what each column entry came from."""
        g = self.geometry
        channels = g.x_shape[1]
        taps = columns.reshape(channels, *g.kernel, *self._spatial)
        total = self._workspace.take("padded", self._padded_shape(), image.dtype)
        total[...] = 0
        for tap in itertools.product(*(range(k) for k in g.kernel)):
            places = tuple(
                slice(k * d, k * d + (n - 1) * s + 1, s)
                for k, d, s, n in zip(
                    tap, g.dilation, g.stride, self._spatial, strict=True
                )
            )
            source: tuple[Any, ...] = (slice(None), *tap)
            target = total[(slice(None), *places)]
            target += taps[source]
        image[...] = total[self._interior]

    def _rectify(self, top: Array) -> None:
        slope = self.geometry.relu
        if slope is None:
            return
        if slope == 0.0:
            np.maximum(top, 0, out=top)
        else:
            np.multiply(top, slope, out=top, where=top < 0)


class ReferenceConvolution:
    """Makes convolution kernels that share one workspace."""

    _workspace: Workspace

    def convolution(self, geometry: ConvGeometry) -> ReferenceConv:
        """A convolution kernel for ``geometry``."""
        return ReferenceConv(geometry, self._workspace)
