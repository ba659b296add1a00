"""Batch normalisation with moments summed in double precision."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.reference.workspace import same_memory
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["ReferenceBatchNorm", "ReferenceBatchNormalisation", "same_memory"]


class ReferenceBatchNorm:
    """`BatchNormKernel` for one geometry; arrays may have any strides."""

    def __init__(self, geometry: BatchNormGeometry) -> None:
        self.geometry = g = geometry
        self._axes = tuple(i for i in range(len(g.x_shape)) if i != 1)
        self._per_channel: Shape = (1, -1, *[1] * (len(g.x_shape) - 2))
        if len(g.x_shape) == 1:
            self._per_channel = (1,)
        self._normed: Array | None = None
        self._passed: Array | None = None

    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]."""
        g = self.geometry
        overwrites = same_memory(x, y)
        if not g.use_stored:
            mean[...] = self._mean(x)
        np.subtract(x, self._spread(mean), out=y)
        if not g.use_stored:
            # Of the centred values: no cancellation of large squares.
            var[...] = self._mean(np.square(y))
        y *= self._inverse_deviation(var)
        self._normed = y.copy() if overwrites else None
        if g.affine and scale is not None:
            y *= self._spread(scale)
        if g.affine and shift is not None:
            y += self._spread(shift)
        if g.relu:
            np.maximum(y, 0, out=y)
            self._passed = None if g.inference else y > 0

    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        dscale: Array | None = None,
        dshift: Array | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """dx from dy; dscale and dshift are overwritten."""
        g = self.geometry
        if g.relu:
            dy = self._rectified(dy)
        inverse = self._inverse_deviation(var)
        factor = inverse if scale is None else inverse * self._spread(scale)
        needs_normed = dscale is not None or not g.use_stored
        normed = x
        if needs_normed and in_place:
            normed = self._kept()
        elif needs_normed:
            normed = (x - self._spread(mean)) * inverse
        mean_dy_normed = self._mean(dy * normed) if needs_normed else mean
        if dscale is not None:
            dscale[...] = mean_dy_normed * self._count
        if dshift is not None:
            dshift[...] = self._mean(dy) * self._count
        if g.use_stored:
            np.multiply(dy, factor, out=dx)
            return
        mean_dy = self._spread(self._mean(dy).astype(dy.dtype))
        correction = normed * self._spread(mean_dy_normed.astype(dy.dtype))
        correction += mean_dy
        np.subtract(dy, correction, out=dx)
        dx *= factor

    # -- pieces --------------------------------------------------------------------
    def _kept(self) -> Array:
        """The normalised values of a forward that overwrote its input."""
        if self._normed is None:
            msg = "batch norm backward in place needs a forward in place first"
            raise BackendError(msg)
        return self._normed

    def _rectified(self, dy: Array) -> Array:
        """The gradient that a forward's ReLU let through."""
        if self._passed is None:
            raise BackendError("backward of batch norm with a ReLU needs a forward")
        return np.where(self._passed, dy, dy.dtype.type(0))

    def _spread(self, values: Array) -> Array:
        return values.reshape(self._per_channel)

    def _inverse_deviation(self, var: Array) -> Array:
        return self._spread(1 / np.sqrt(var + var.dtype.type(self.geometry.eps)))

    @property
    def _count(self) -> int:
        """Elements that one channel's moments are taken over."""
        shape = self.geometry.x_shape
        return int(np.prod([shape[i] for i in self._axes], dtype=np.int64))

    def _mean(self, x: Array) -> Array:
        """Per-channel mean in double precision; 0 of an empty batch."""
        total = x.sum(axis=self._axes, dtype=np.float64).reshape(-1)
        return np.asarray(total / max(self._count, 1))


class ReferenceBatchNormalisation:
    """Makes batch normalisation kernels."""

    def batch_norm(self, geometry: BatchNormGeometry) -> ReferenceBatchNorm:
        """A batch normalisation kernel for ``geometry``."""
        return ReferenceBatchNorm(geometry)
