"""Losses of the differences of two arrays in NumPy."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["ReferencePairLosses"]

_NO_DIVISION_BY_ZERO = 1e-4


def _similar(label: Array) -> Array:
    similar: Array = label.reshape(-1).astype(np.int64) != 0
    return similar


class ReferencePairLosses:
    """`PairLossOps` in NumPy; arrays may have any strides."""

    def squared_difference(
        self, a: Array, b: Array, difference: Array, sums: Sums
    ) -> None:
        """difference = a - b, of one shape; sums = sum of its squares, elements."""
        np.subtract(a, b, out=difference)
        sums[...] = float(np.square(difference).sum(dtype=np.float64)), a.size

    def weigh(self, x: Array, weight: Weight, factor: float, y: Array) -> None:
        """y = factor * weight * x."""
        np.multiply(x.reshape(y.shape), factor * float(weight[0]), out=y)

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""
        squares[...] = np.square(a - b).sum(axis=1)

    def contrastive_loss(
        self, squares: Array, label: Array, margin: float, sums: Sums, *, legacy: bool
    ) -> None:
        """sums = sum of squares for similar pairs, of the push for others; pairs."""
        if legacy:
            apart = np.maximum(margin - squares, 0)
        else:
            apart = np.maximum(margin - np.sqrt(squares), 0) ** 2
        each = np.where(_similar(label), squares, apart)
        sums[...] = float(each.sum(dtype=np.float64)), len(squares)

    def contrastive_factors(
        self, squares: Array, label: Array, margin: float, weight: Weight,
        factors: Array, *, legacy: bool,
    ) -> None:  # fmt: skip
        """factors[i] = weight * what a - b is multiplied with in its own gradient."""
        if legacy:
            push = np.where(margin - squares > 0, -1, 0)
        else:
            distance = np.sqrt(squares)
            gap = margin - distance
            push = np.where(gap > 0, -gap / (distance + _NO_DIVISION_BY_ZERO), 0)
        factors[...] = np.where(_similar(label), 1, push) * float(weight[0])

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
        pull = (a - b) * factor[:, None]
        if da is not None:
            da[...] = pull
        if db is not None:
            np.negative(pull, out=db)
