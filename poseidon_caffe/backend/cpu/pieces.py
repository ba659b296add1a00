"""Sums of what oneDNN's primitives give, piece by piece while it is in the cache.

Every thread runs the primitives on its own pieces, alone.  Primitives on all threads
would have to wait for each other after every piece, which takes longer than the
work itself when other programs keep a core busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.chain import DnnlChain
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["PIECE_COUNT", "CpuPieces", "row_squares", "sum_of", "sum_of_squares"]

PIECE_COUNT = 1 << 18
"""Elements of a piece: 1 MiB of float32; with much less Python takes longer than it."""

_ROW = 1024
_ONES = np.ones((_ROW, 1), np.float32)


class CpuPieces(DnnlChain):
    """Runs chains piece by piece."""

    _pool: ThreadPool

    def _sum_pieces(
        self, count: int, piece: Callable[[slice, Array], float], length: int = 1
    ) -> float:
        """The sum of ``piece`` over neighbouring slices of 0..count; exact.

        Args:
            count: things to share out.
            piece: gets a slice and room for its elements, a flat float32 array.
            length: elements of a thing.
        """
        step = max(1, PIECE_COUNT // max(length, 1))
        room_count = min(step, count) * length
        if count <= step:
            return piece(slice(0, count), np.empty(room_count, np.float32))
        found: list[float] = []

        def work(first: int, last: int) -> None:
            room = np.empty(room_count, np.float32)
            self.dnnl.set_threads(1)
            for start in range(first, last, step):
                part = slice(start, min(start + step, last))
                found.append(piece(part, room[: (part.stop - start) * length]))

        shares = min(self._pool.threads, -(-count // step))
        ends = [count * i // shares for i in range(shares + 1)]
        try:
            self._pool.run([partial(work, ends[i], ends[i + 1]) for i in range(shares)])
        finally:
            # This thread took part; the others do nothing else.
            self.dnnl.set_threads(self._pool.threads)
        return math.fsum(found)


def sum_of(x: Array) -> float:
    """Sum of a flat float32 array: rows of it in float32, those in float64."""
    whole = x.size // _ROW * _ROW
    # Products with ones take half the time of sums.
    rows = np.matmul(x[:whole].reshape(-1, 1, _ROW), _ONES)
    rest = x[whole:].sum(dtype=np.float64)
    return float(rows.sum(dtype=np.float64)) + float(rest)


def sum_of_squares(x: Array) -> float:
    """Sum of squares of a flat float32 array, in the same way."""
    whole = x.size // _ROW * _ROW
    rows = row_squares(x[:whole].reshape(-1, _ROW))
    rest = x[whole:].astype(np.float64)
    return float(rows.sum(dtype=np.float64)) + float(rest @ rest)


def row_squares(rows: Array) -> Array:
    """Sums of squares along the rows of a matrix; one call for all the products."""
    squares: Array = np.matmul(rows[:, None, :], rows[:, :, None])
    return squares.reshape(-1)
