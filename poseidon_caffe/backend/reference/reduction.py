"""One number from all trailing axes, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from poseidon_caffe.backend.protocols import ReduceKind
from poseidon_caffe.types import Array

__all__ = ["ReferenceReduction"]

_BLOCK_COUNT = 1 << 16
_THREAD_COUNT = 1 << 19  # elements that are worth another thread


class _Threads(Protocol):
    def parallel(self, work: Sequence[Callable[[], None]]) -> None:
        """Run independent pieces of work."""


class ReferenceReduction:
    """`ReductionOps`: a few rows at a time, which stay in the cache."""

    def reduce_tail(
        self: _Threads, x: Array, axis: int, kind: ReduceKind, coeff: float, y: Array
    ) -> None:
        """y = coeff * sum of x, of its magnitudes or of its squares."""
        rows = _rows(x, axis)
        sums = np.empty(len(rows), x.dtype)
        # Two threads read about as fast as memory gives.
        half = len(rows) // 2 if rows.size >= _THREAD_COUNT else 0
        work = [
            partial(_sum_rows, rows[part], kind, sums[part])
            for part in (slice(half), slice(half, None))
        ]
        self.parallel(work if half else work[1:])
        sums *= x.dtype.type(coeff)
        y[...] = sums.reshape(y.shape)

    def reduce_tail_backward(
        self, x: Array, dy: Array, axis: int, kind: ReduceKind, coeff: float,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = coeff * dy, times the sign of x, or 2 x, where that was summed."""
        dy = dy.reshape(dy.shape + (1,) * (x.ndim - axis))
        dy = dy * x.dtype.type(coeff * (2 if kind == "sumsq" else 1))
        if kind == "sumsq":
            np.multiply(x, dy, out=dx)
        elif kind == "asum":
            np.sign(x, out=dx)
            dx *= dy
        else:
            dx[...] = dy


def _sum_rows(rows: Array, kind: ReduceKind, sums: Array) -> None:
    """Sums of the elements, their magnitudes or squares."""
    step = max(1, _BLOCK_COUNT // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        if kind == "asum":
            part = np.abs(part)
        elif kind == "sumsq":
            part = np.square(part)
        part.sum(axis=1, out=sums[start : start + step])


def _rows(x: Array, axis: int) -> Array:
    """A matrix whose rows hold what is summed up, in any order."""
    count, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    if axis <= 1 < x.ndim - 1 and not x.flags.c_contiguous:
        # Channels-last memory: the order within a sample does not matter.
        x = np.moveaxis(x, 1, -1)
    return x.reshape(count, length)
