"""One number from all trailing axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from poseidon_caffe.backend.gpu.launcher import THREADS, WARP, row_threads
from poseidon_caffe.backend.gpu.planes import GpuPlanes
from poseidon_caffe.backend.protocols import ReduceKind
from poseidon_caffe.types import Array

__all__ = ["GpuReduction"]

_KINDS: dict[ReduceKind, int] = {"sum": 0, "asum": 1, "sumsq": 2}  # reduction.cu
_BLOCK_COUNT = 4096  # elements that are worth another block
_MOST_BLOCKS = 1024


class GpuReduction(GpuPlanes):
    """`ReductionOps` on a GPU."""

    def reduce_tail(
        self, x: Array, axis: int, kind: ReduceKind, coeff: float, y: Array
    ) -> None:
        """y = coeff * sum of x, of its magnitudes or of its squares."""
        rows, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
        if rows == 0:
            return
        kernels = self.kernels("reduction")
        slots, threads = _shares(rows, length)
        parts = self.scratch.take("reduction", (rows, slots), np.float64)
        with self._rows(axis, [x], []) as (flat, _), self.planes(0, [], [y]) as out:
            kernels.blocks(
                "reduce_rows", x.dtype, rows * slots, *flat, parts, _KINDS[kind],
                length, slots, threads=threads,
            )  # fmt: skip
            kernels.blocks(
                "finish_rows", x.dtype, -(-rows * WARP // THREADS), parts,
                out.writes[0], float(coeff), rows, slots,
            )  # fmt: skip

    def reduce_tail_backward(
        self, x: Array, dy: Array, axis: int, kind: ReduceKind, coeff: float,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = coeff * dy, times the sign of x, or 2 x, where that was summed."""
        rows, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
        if not x.size:
            return
        slots, threads = _shares(rows, length)
        slopes = self.plain(dy, "slopes")
        with self._rows(axis, [x], [dx]) as (flat, outs):
            self.kernels("reduction").blocks(
                "spread_rows", x.dtype, rows * slots, *flat, slopes, *outs,
                _KINDS[kind], float(coeff), length, slots, threads=threads,
            )  # fmt: skip

    @contextmanager
    def _rows(
        self, axis: int, reads: list[Array], writes: list[Array]
    ) -> Iterator[tuple[list[Array], list[Array]]]:
        """Arrays whose rows are contiguous, their elements in one common order."""
        if axis <= 1:
            # The order within a sample does not matter.
            with self.alike(reads, writes) as (ins, outs):
                yield (
                    [a for a in ins if a is not None],
                    [a for a in outs if a is not None],
                )
        else:
            with self.planes(0, reads, writes) as planes:
                yield planes.reads, planes.writes


def _shares(rows: int, length: int) -> tuple[int, int]:
    """Blocks that share a row, and their threads."""
    slots = max(1, min(-(-length // _BLOCK_COUNT), _MOST_BLOCKS // rows))
    return slots, row_threads(length)
