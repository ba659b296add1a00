"""Rows by number at the speed of memory: whole rows copied, sums by groups."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.scatter import WIDE, add_rows
from poseidon_caffe.backend.reference.indexing import ReferenceIndexing
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuIndexing"]

#: So many different indices, each so often on average, are summed fastest by a
#: product with a 0/1 matrix.
_FEW, _OFTEN = 64, 4
#: Elements that one call adds: their flat indices (8 bytes each) fit the L2 cache.
_BLOCK_COUNT = 1 << 15
#: Elements that one call gathers and the next one adds to.
_GATHER_COUNT = 1 << 18


class CpuIndexing(ReferenceIndexing):
    """`IndexingOps` for arrays whose rows are gapless pieces of memory."""

    _pool: ThreadPool

    def gather_rows(
        self, x: Array, index: Array, y: Array, plus: Array | None = None
    ) -> None:
        """y[i] = x[index[i]] [+ plus]."""
        pair = _matrices(x, y) if plus is None else _matrices(x, y, plus[None])
        if pair is None or not len(x):
            super().gather_rows(x, index, y, plus)
            return
        rows, out = pair[:2]
        if plus is None:
            # "clip" writes straight into y; "raise" would go through a buffer.
            np.take(rows, index, axis=0, out=out, mode="clip")
            return
        # Some rows at a time, so that what is added to is in the cache still.
        step = max(1, _GATHER_COUNT // max(out.shape[1], 1))

        def piece(start: int) -> None:
            part = out[start : start + step]
            numbers = index[start : start + step]
            np.take(rows, numbers, axis=0, out=part, mode="clip")
            np.add(part, pair[2], out=part)

        starts = range(0, len(out), step)
        self._pool.run_many([partial(piece, start) for start in starts])

    def scatter_add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool = False
    ) -> None:
        """dx (+)= sum of the rows dy[i] that go to each row."""
        pair = _matrices(dy, dx)
        if pair is None:
            super().scatter_add_rows(dy, index, dx, accumulate=accumulate)
            return
        rows, sums = pair
        if rows.shape[1] >= WIDE and len(rows):
            add_rows(self._pool, rows, index, sums, accumulate=accumulate)
            return
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
    """Add the chosen rows, element by element."""
    width = rows.shape[1]
    # Indexed addition is fast for flat arrays only.
    columns, flat = np.arange(width), sums.reshape(-1)
    step = max(1, _BLOCK_COUNT // width)
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        places = (index[part, None] * width + columns).reshape(-1)
        np.add.at(flat, places, rows[part].reshape(-1))
