"""Losses of the differences of two arrays."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.protocols.loss_results import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["PairLossOps"]


class PairLossOps(Protocol):
    """Differences, their squares and what follows from them."""

    def squared_difference(
        self, a: Array, b: Array, difference: Array, sums: Sums
    ) -> None:
        """difference = a - b, of one shape; sums = sum of its squares, elements."""

    def weigh(self, x: Array, weight: Weight, factor: float, y: Array) -> None:
        """y = factor * weight * x; as many elements in C order, y may be x."""

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""

    def contrastive_loss(
        self, squares: Array, label: Array, margin: float, sums: Sums, *, legacy: bool
    ) -> None:
        """sums = sum of squares[i] for similar pairs, of the push for others; pairs.

        The push is max(margin - distance, 0)^2, or max(margin - squares, 0) if
        ``legacy``.

        Args:
            squares: (N,), squared distances.
            label: N elements; the whole part is 0 for pairs that are not similar.
            margin: distance that is enough for those.
            sums: is overwritten.
            legacy: see above.
        """

    def contrastive_factors(
        self, squares: Array, label: Array, margin: float, weight: Weight,
        factors: Array, *, legacy: bool,
    ) -> None:  # fmt: skip
        """factors[i] = weight * what a - b is multiplied with in its own gradient.

        1 for similar pairs; for others, inside the margin, -(margin - distance) /
        (distance + 1e-4), or -1 if ``legacy``; 0 outside.
        """

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
