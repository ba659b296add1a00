"""Rows by number in plain NumPy."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceIndexing"]


class ReferenceIndexing:
    """`IndexingOps`; arrays may have any strides."""

    def gather_rows(
        self, x: Array, index: Array, y: Array, plus: Array | None = None
    ) -> None:
        """y[i] = x[index[i]] [+ plus]."""
        y[...] = x[index]
        if plus is not None:
            y += plus

    def scatter_add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool = False
    ) -> None:
        """dx (+)= sum of the rows dy[i] that go to each row, in the order of i."""
        if not accumulate:
            dx[...] = 0
        np.add.at(dx, index, dy)
