"""One number from all trailing axes."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from poseidon_caffe.types import Array

__all__ = ["ReduceKind", "ReductionOps"]

ReduceKind: TypeAlias = Literal["sum", "asum", "sumsq"]
"""What is added up: elements, their magnitudes, their squares."""


class ReductionOps(Protocol):
    """Sums over the axes from ``axis`` on; y has the axes before it."""

    def reduce_tail(
        self, x: Array, axis: int, kind: ReduceKind, coeff: float, y: Array
    ) -> None:
        """y = coeff * sum of x, of its magnitudes or of its squares."""

    def reduce_tail_backward(
        self, x: Array, dy: Array, axis: int, kind: ReduceKind, coeff: float,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = coeff * dy, times the sign of x, or 2 x, where that was summed."""
