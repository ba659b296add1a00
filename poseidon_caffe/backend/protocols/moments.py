"""Normalisation of each image, or each of its channels, by its own moments."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["MomentOps"]


class MomentOps(Protocol):
    """Mean and deviation over all axes but the first ``kept`` (1 or 2).

    ``deviation`` has the shape x.shape[:kept]; without one (None) only the mean is
    taken away.
    """

    def mean_variance(
        self, x: Array, y: Array, kept: int, eps: float, deviation: Array | None
    ) -> None:
        """y = (x - mean) / deviation; in place allowed.

        ``deviation`` is overwritten with sqrt(mean of (x - mean)^2) + eps.
        """

    def mean_variance_backward(
        self, y: Array, dy: Array, dx: Array, kept: int, deviation: Array | None
    ) -> None:
        """dx = (dy - mean of dy - y mean of (y dy)) / deviation; dx may be dy.

        As Caffe has it: eps is left out of the deviation's own gradient.
        """
