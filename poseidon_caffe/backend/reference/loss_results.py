"""Means of losses and weights of their gradients, in NumPy."""

from __future__ import annotations

from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["ReferenceLossResults"]


def _divisor(sums: Sums, divisor: float | None) -> float:
    return max(1.0, float(sums[1]) if divisor is None else divisor)


class ReferenceLossResults:
    """`LossResultOps` in double precision."""

    def write_mean(
        self, sums: Sums, divisor: float | None, top: Array, factor: float = 1.0
    ) -> None:
        """top = factor * total / divisor."""
        top[...] = factor * float(sums[0]) / _divisor(sums, divisor)

    def loss_weight(
        self, diff: Array, sums: Sums, divisor: float | None, weight: Weight,
        factor: float = 1.0,
    ) -> None:  # fmt: skip
        """weight = factor * diff / divisor."""
        weight[0] = factor * float(diff) / _divisor(sums, divisor)
