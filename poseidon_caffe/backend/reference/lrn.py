"""Local response normalisation, across channels and within each channel."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.reference.windows import Windows
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["ReferenceLrn", "ReferenceNormalisation", "inverse_power"]


def inverse_power(x: Array, beta: float) -> Array:
    """x ** -beta of positive ``x``, a new array; the usual 3/4 by square roots."""
    if beta == 0.75:  # noqa: PLR2004
        root = np.sqrt(x)
        result = np.sqrt(root)
        result *= root
        return np.reciprocal(result, out=result)
    return np.power(x, -beta)


class ReferenceLrn:
    """`LrnKernel` for one geometry; arrays may have any strides.

    WITHIN_CHANNEL divides by size² at the borders too: Caffe's average pooling
    there has stride 1 and pad (size - 1) / 2, whose windows never overstep the
    padded image.  Its ``k`` is always 1.
    """

    def __init__(self, geometry: LrnGeometry) -> None:
        if geometry.size % 2 == 0 or geometry.size < 1:
            msg = f"LRN needs an odd local_size, not {geometry.size}"
            raise BackendError(msg)
        self.geometry = g = geometry
        axes = (1,) if g.across_channels else (2, 3)
        self._windows = [
            (
                axis,
                Windows(g.x_shape[axis], g.x_shape[axis], g.size, 1, (g.size - 1) // 2),
            )
            for axis in axes
        ]
        self._k = g.k if g.across_channels else 1.0
        self._alpha = g.alpha / g.size ** len(axes)
        self._scale: Array | None = None

    def forward(self, x: Array, y: Array) -> None:
        """y = x * scale ** -beta, scale = k + alpha / n * windowed sum of x²."""
        scale = self._sum(x * x)
        scale *= self._alpha
        scale += self._k
        np.multiply(x, inverse_power(scale, self.geometry.beta), out=y)
        self._scale = scale

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy scale^-beta - 2 alpha beta / n * x * windowed sum of dy y / scale."""
        scale = self._scale
        if scale is None:
            raise BackendError("LRN backward needs a forward first")
        ratio = dy * y
        ratio /= scale
        total = self._sum(ratio)
        total *= x
        total *= 2 * self._alpha * self.geometry.beta
        np.multiply(dy, inverse_power(scale, self.geometry.beta), out=dx)
        dx -= total

    def _sum(self, x: Array) -> Array:
        for axis, windows in self._windows:
            x = windows.sum(x, axis)
        return x


class ReferenceNormalisation:
    """Makes LRN kernels."""

    def lrn(self, geometry: LrnGeometry) -> ReferenceLrn:
        """A local response normalisation kernel for ``geometry``."""
        return ReferenceLrn(geometry)
