"""Losses of the differences of two arrays in NumPy."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferencePairLosses"]


class ReferencePairLosses:
    """`PairLossOps` in NumPy; arrays may have any strides."""

    def squared_difference(self, a: Array, b: Array, difference: Array) -> float:
        """difference = a - b, of one shape; returns the sum of its squares."""
        np.subtract(a, b, out=difference)
        return float(np.square(difference).sum(dtype=np.float64))

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""
        squares[...] = np.square(a - b).sum(axis=1)

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
        pull = (a - b) * factor[:, None]
        if da is not None:
            da[...] = pull
        if db is not None:
            np.negative(pull, out=db)
