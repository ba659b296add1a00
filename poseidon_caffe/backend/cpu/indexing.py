"""Rows by number at the speed of memory: whole rows copied, sums by flat index."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.reference.indexing import ReferenceIndexing
from poseidon_caffe.types import Array

__all__ = ["CpuIndexing"]

#: So many different indices, each so often on average, are summed fastest by a
#: product with a 0/1 matrix.
_FEW, _OFTEN = 64, 4
#: Elements of a row that are worth a call of their own.
_WIDE = 256
#: Elements that one call adds: their flat indices (8 bytes each) fit the L2 cache.
_BLOCK_COUNT = 1 << 15


class CpuIndexing(ReferenceIndexing):
    """`IndexingOps` for arrays whose rows are gapless pieces of memory."""

    def gather_rows(self, x: Array, index: Array, y: Array) -> None:
        """y[i] = x[index[i]]."""
        pair = _matrices(x, y)
        if pair is None or not len(x):
            super().gather_rows(x, index, y)
        else:
            # "clip" writes straight into y; "raise" would go through a buffer.
            np.take(pair[0], index, axis=0, out=pair[1], mode="clip")

    def scatter_add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool = False
    ) -> None:
        """dx (+)= sum of the rows dy[i] that go to each row."""
        pair = _matrices(dy, dx)
        if pair is None:
            super().scatter_add_rows(dy, index, dx, accumulate=accumulate)
            return
        rows, sums = pair
        if not accumulate:
            sums[...] = 0
        if not rows.size:
            return
        named, first, inverse = np.unique(index, return_index=True, return_inverse=True)
        if len(named) <= _FEW and len(index) >= _OFTEN * len(named):
            choice = np.zeros((len(named), len(index)), rows.dtype)
            choice[inverse, np.arange(len(index))] = 1
            sums[named] += choice @ rows
            return
        # Each index once, then those that come again.
        sums[named] += rows[first]
        again = np.ones(len(index), bool)
        again[first] = False
        _add_rest(rows, index, np.flatnonzero(again), sums)


def _matrices(*arrays: Array) -> list[Array] | None:
    """The arrays as C-order matrices of their rows, or None.

    All rows' elements come in the same order: C order or channels-last.
    """
    if all(a.flags.c_contiguous for a in arrays):
        return [_rows(a) for a in arrays]
    if arrays[0].ndim > 2:
        moved = [np.moveaxis(a, 1, -1) for a in arrays]
        if all(a.flags.c_contiguous for a in moved):
            return [_rows(a) for a in moved]
    return None


def _rows(array: Array) -> Array:
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))


def _add_rest(rows: Array, index: Array, chosen: Array, sums: Array) -> None:
    """Add the chosen rows: whole if wide, else element by element."""
    width = rows.shape[1]
    if width >= _WIDE:
        for i, row in zip(index[chosen].tolist(), chosen.tolist(), strict=True):
            sums[i] += rows[row]
        return
    # Indexed addition is fast for flat arrays only.
    columns, flat = np.arange(width), sums.reshape(-1)
    step = max(1, _BLOCK_COUNT // width)
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        places = (index[part, None] * width + columns).reshape(-1)
        np.add.at(flat, places, rows[part].reshape(-1))
