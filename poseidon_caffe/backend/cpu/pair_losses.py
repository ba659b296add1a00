"""Losses of the differences of two arrays, on oneDNN."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.cpu.chain import each, each_row, one
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.layout import alike, flat_together
from poseidon_caffe.backend.cpu.pieces import (
    CpuPieces,
    row_squares,
    sum_of_squares,
)
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.backend.reference.pair_losses import ReferencePairLosses
from poseidon_caffe.types import Array

__all__ = ["CpuPairLosses"]


class CpuPairLosses(CpuPieces, ReferencePairLosses):
    """`PairLossOps` for float32 arrays that lie alike; others go to the reference."""

    def squared_difference(
        self, a: Array, b: Array, difference: Array, sums: Sums
    ) -> None:
        """difference = a - b, of one shape; sums = sum of its squares, elements."""
        flat = None
        if alike(a, b, difference):
            flat = flat_together(a, b, difference)
        if flat is None:
            super().squared_difference(a, b, difference, sums)
            return
        left, right, out = flat

        def piece(part: slice, _: Array) -> float:
            y = out[part]
            self._chain(y.size, each(Alg.SUB))(left[part], right[part], y)
            return sum_of_squares(y)

        sums[...] = self._sum_pieces(out.size, piece), out.size

    def weigh(self, x: Array, weight: Weight, factor: float, y: Array) -> None:
        """y = factor * weight * x."""
        if x.shape != y.shape or not alike(x, y):
            super().weigh(x, weight, factor, y)
            return
        times = np.array([factor * float(weight[0])], np.float32)
        self._chain(y.size, one(Alg.MUL))(x, times, y)

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""
        if not _rows(a, b):
            super().row_distances(a, b, squares)
            return

        def piece(part: slice, room: Array) -> float:
            x, y = a[part], b[part]
            between = room.reshape(x.shape)
            self._chain(x.size, each(Alg.SUB))(x, y, between)
            squares[part] = row_squares(between)
            return 0.0

        self._sum_pieces(len(a), piece, a.shape[1])

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
        outputs = [d for d in (da, db) if d is not None]
        if not _rows(a, b, *outputs):
            super().pull_rows(a, b, factor, da, db)
            return
        factor = np.ascontiguousarray(factor, np.float32)
        pull = self._chain(a.size, each(Alg.SUB), each_row(Alg.MUL), rows=len(a))
        if da is not None:
            pull(a, b, factor, da)
        if db is not None:
            pull(b, a, factor, db)


def _rows(*arrays: Array) -> bool:
    """Whether the primitives take these matrices."""
    return arrays[0].flags.c_contiguous and alike(*arrays)
