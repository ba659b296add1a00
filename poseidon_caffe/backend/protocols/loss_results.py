"""What losses add up, and what their gradients are weighed with."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from poseidon_caffe.types import Array

__all__ = ["LossResultOps", "Sums", "Weight"]

Sums: TypeAlias = Array
"""Of a loss: its total and how many places count; float64 (2,), of the backend's
memory.  Layers keep it and hand it on, and never look at the numbers: on a GPU that
would wait for the work before."""

Weight: TypeAlias = Array
"""What a loss's gradient is multiplied by; float64 (1,), of the backend's memory."""


class LossResultOps(Protocol):
    """From sums to means, and from a loss's gradient to its weight.

    Both divide by ``divisor`` or, where it is None, by the places counted; by 1 at
    least.
    """

    def write_mean(
        self, sums: Sums, divisor: float | None, top: Array, factor: float = 1.0
    ) -> None:
        """top = factor * total / divisor; ``top`` is a scalar."""

    def loss_weight(
        self, diff: Array, sums: Sums, divisor: float | None, weight: Weight,
        factor: float = 1.0,
    ) -> None:  # fmt: skip
        """weight = factor * diff / divisor; ``diff`` is a scalar."""
