"""Sums of large arrays: block by block, on all threads.

Blocks are summed in float32 (squares in float64) and the blocks' sums in float64, in
the blocks' order: the number of threads changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.layout import alike, flat_together
from poseidon_caffe.backend.reference.elementwise import ReferenceElementwise
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuSums"]


class CpuSums(ReferenceElementwise):
    """The sums of `ElementwiseOps`."""

    _pool: ThreadPool

    def asum(self, x: Array) -> float:
        """Sum of absolute values."""
        flat = flat_together(x) if x.size > BLOCK_COUNT else None
        if flat is None:
            return super().asum(x)
        return self._total(flat[0], lambda part: np.abs(part).sum())

    def sumsq(self, x: Array) -> float:
        """Sum of squares."""
        flat = flat_together(x) if x.size > BLOCK_COUNT else None
        if flat is None or x.dtype != np.float32:
            return super().sumsq(x)
        return self._total(flat[0], _sum_of_squares)

    def _total(self, flat: Array, measure: Callable[[Array], float]) -> float:
        blocks = range(0, flat.size, BLOCK_COUNT)
        sums = np.zeros(len(blocks))

        def work(index: int) -> None:
            start = blocks[index]
            sums[index] = measure(flat[start : start + BLOCK_COUNT])

        self._shared(work, len(blocks))
        return float(sums.sum())

    def sum_outer(
        self, x: Array, axis: int, shape: tuple[int, ...], out: Array,
        times: Array | None = None, *, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """out (+)= x [* times] summed over all axes but axis..axis+len(shape)."""
        given = (x,) if times is None else (x, times)
        channels = axis == 1 and len(shape) == 1 and x.ndim > 1
        total = None
        if channels and x.size > BLOCK_COUNT and alike(*given):
            total = self._channel_sums(given)
        if total is None:
            super().sum_outer(x, axis, shape, out, times, accumulate=accumulate)
        elif accumulate:
            out += total.astype(out.dtype).reshape(out.shape)
        else:
            out[...] = total.reshape(out.shape)

    def _channel_sums(self, given: tuple[Array, ...]) -> Array | None:
        """Float64 sums of the product for each channel."""
        last = [np.moveaxis(a, 1, -1) for a in given]
        if all(a.flags.c_contiguous for a in last):
            rows = [a.reshape(-1, a.shape[-1]) for a in last]
            return self._row_sums(rows)
        if all(a.flags.c_contiguous for a in given):
            planes = [a.reshape(*a.shape[:2], -1) for a in given]
            return self._plane_sums(planes)
        return None

    def _row_sums(self, rows: list[Array]) -> Array:
        """Sums down the columns of (rows, channels)."""
        count, channels = rows[0].shape
        step = max(1, BLOCK_COUNT // channels)
        starts = range(0, count, step)
        sums = np.zeros((len(starts), channels))
        ones = np.ones(step, np.float32)

        def work(index: int) -> None:
            part = _product([a[starts[index] : starts[index] + step] for a in rows])
            # A product with ones runs along short rows faster than a sum does.
            sums[index] = ones[: len(part)] @ part

        self._shared(work, len(starts))
        total: Array = sums.sum(axis=0)
        return total

    def _plane_sums(self, planes: list[Array]) -> Array:
        """Sums over images and places of (images, channels, places)."""
        images, channels, _ = planes[0].shape
        sums = np.zeros((images, channels))

        def work(index: int) -> None:
            _product([a[index] for a in planes]).sum(axis=1, out=sums[index])

        self._shared(work, images)
        total: Array = sums.sum(axis=0)
        return total

    def _shared(self, work: Callable[[int], None], count: int) -> None:
        """``work(0) ... work(count - 1)``, each thread a run of neighbours."""
        threads = max(1, min(self._pool.threads, count))

        def share(first: int) -> None:
            for index in range(
                count * first // threads, count * (first + 1) // threads
            ):
                work(index)

        self._pool.run([partial(share, i) for i in range(threads)])


def _product(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.multiply(*arrays)


def _sum_of_squares(part: Array) -> float:
    wide = part.astype(np.float64)
    # NumPy's BLAS gives products of more than 10,000 numbers to threads of its own,
    # which is slower.
    half = wide.size // 2
    first, second = wide[:half], wide[half:]
    return float(np.dot(first, first)) + float(np.dot(second, second))
