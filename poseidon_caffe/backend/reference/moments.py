"""Normalisation of each image, or each of its channels, by its own moments."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceMoments"]


def _mean(x: Array, kept: int) -> Array:
    """Mean over all axes but the first ``kept``, in double precision, to broadcast."""
    axes = tuple(range(kept, x.ndim))
    mean: Array = x.mean(axis=axes, dtype=np.float64, keepdims=True)
    return mean


class ReferenceMoments:
    """`MomentOps` in NumPy."""

    def mean_variance(
        self, x: Array, y: Array, kept: int, eps: float, deviation: Array | None
    ) -> None:
        """y = (x - mean) / deviation; in place allowed."""
        if not x.size:
            return
        np.subtract(x, _mean(x, kept).astype(x.dtype), out=y)
        if deviation is not None:
            spread = np.sqrt(_mean(y * y, kept)) + eps
            deviation[...] = spread.reshape(deviation.shape)
            y /= spread.astype(y.dtype)

    def mean_variance_backward(
        self, y: Array, dy: Array, dx: Array, kept: int, deviation: Array | None
    ) -> None:
        """dx = (dy - mean of dy - y mean of (y dy)) / deviation; dx may be dy."""
        if not y.size:
            return
        mean = _mean(dy, kept).astype(dy.dtype)
        if deviation is None:
            np.subtract(dy, mean, out=dx)
            return
        both = _mean(y * dy, kept).astype(dy.dtype)
        np.subtract(dy, mean, out=dx)
        dx -= y * both
        dx /= deviation.reshape(both.shape)
