"""Losses of the differences of two arrays."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["PairLossOps"]


class PairLossOps(Protocol):
    """Differences, their squares and what follows from them."""

    def squared_difference(self, a: Array, b: Array, difference: Array) -> float:
        """difference = a - b, of one shape; returns the sum of its squares."""

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
