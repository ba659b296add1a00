"""Normalisation by own moments: two passes over memory, in blocks, on all threads.

An array is seen as (groups, places, width).  Channels-last and per channel a group
is an image and the width holds its channels, several places side by side where there
are few channels (NumPy is slow along short axes).  Otherwise a group is what one
mean is taken over, and its width is 1 (left out).

Sums of a block are float32, sums of blocks float64; a block's squares are taken about
its own mean, so that a large mean costs no precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.layout import alike, dense
from poseidon_caffe.backend.reference.moments import ReferenceMoments
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuMoments"]

_WIDE = 64  # shortest axis that NumPy runs along at full speed
_WIDEST = 2048
_MANY_ROWS = 512


@dataclass
class _Seen:
    """Arrays of one layout as (groups, places, width) or (groups, places).

    Attributes:
        arrays: the views.
        fold: places that lie side by side in the width.
        channels: different means in a group.
    """

    arrays: list[Array]
    fold: int
    channels: int

    @property
    def blocks(self) -> list[tuple[slice, slice]]:
        """Groups and places of pieces that fit the cache together."""
        groups, places, *width = self.arrays[0].shape
        row = math.prod(width)
        if places * row >= BLOCK_COUNT:
            step, many = max(1, BLOCK_COUNT // row), 1
            # NumPy adds rows up one by one, which rounds once for each.
            step = min(step, _MANY_ROWS) if width else step
        else:
            step, many = places, max(1, BLOCK_COUNT // (places * row))
        return [
            (slice(g, min(g + many, groups)), slice(p, min(p + step, places)))
            for g in range(0, groups, many)
            for p in range(0, places, step)
        ]

    def sums(self, x: Array) -> Array:
        """Sums over the places of a block: (groups, channels)."""
        total: Array = x.sum(axis=1)
        if x.ndim == 2:
            return total[:, None]
        folded = total.reshape(len(x), self.fold, self.channels)
        sums: Array = folded.sum(axis=1)
        return sums

    def spread(self, values: Array) -> Array:
        """(groups, channels) ready to broadcast over a block."""
        if self.arrays[0].ndim == 2:
            return values
        return np.tile(values, (1, self.fold))[:, None, :]

    def places(self, x: Array) -> int:
        """Elements of a block that go into each sum."""
        return int(x.shape[1]) * self.fold


def _see(kept: int, *arrays: Array) -> _Seen | None:
    """The arrays in groups, or None if they do not lie alike."""
    first = arrays[0]
    if not alike(*arrays):
        return None
    if all(a.flags.c_contiguous for a in arrays):
        groups = math.prod(first.shape[:kept])
        return _Seen([a.reshape(groups, -1) for a in arrays], 1, 1)
    last = [np.moveaxis(a, 1, -1) for a in arrays]
    if not all(a.flags.c_contiguous for a in last):
        return None
    images, channels = first.shape[:2]
    if kept == 1:
        return _Seen([a.reshape(images, -1) for a in last], 1, 1)
    fold = _fold(first[0, 0].size, channels)
    shape = (images, -1, fold * channels)
    return _Seen([a.reshape(shape) for a in last], fold, channels)


def _fold(places: int, channels: int) -> int:
    """The divisor of ``places`` that makes rows of at least `_WIDE`, if small."""
    for fold in range(1, min(places, _WIDEST // channels) + 1):
        if places % fold == 0 and fold * channels >= _WIDE:
            return fold
    return 1


class CpuMoments(ReferenceMoments):
    """`MomentOps` in blocks of NumPy."""

    _pool: ThreadPool

    def mean_variance(
        self, x: Array, y: Array, kept: int, eps: float, deviation: Array | None
    ) -> None:
        """y = (x - mean) / deviation; in place allowed."""
        seen = _see(kept, x, y) if x.size > BLOCK_COUNT else None
        if seen is None or (deviation is not None and not dense(deviation)):
            super().mean_variance(x, y, kept, eps, deviation)
            return
        rows, out = seen.arrays
        squares = deviation is not None
        mean, var = self._moments(seen, rows, squares=squares)
        scale = None
        if deviation is not None:
            spread = np.sqrt(var) + eps
            deviation[...] = spread.reshape(deviation.shape)
            scale = (1 / spread).astype(np.float32)
        low = mean.astype(np.float32)

        def work(groups: slice, places: slice) -> None:
            target = out[groups, places]
            np.subtract(rows[groups, places], seen.spread(low[groups]), out=target)
            if scale is not None:
                target *= seen.spread(scale[groups])

        self._each(seen, work)

    def _moments(
        self, seen: _Seen, rows: Array, *, squares: bool
    ) -> tuple[Array, Array]:
        """Mean and (0 unless ``squares``) variance of each group and channel."""
        blocks = seen.blocks
        sums: list[tuple[int, Array, Array | None]] = [(0, rows, None)] * len(blocks)

        def work(index: int, groups: slice, places: slice) -> None:
            part = rows[groups, places]
            count, total = seen.places(part), seen.sums(part)
            about = None
            if squares:
                off = part - seen.spread(total / np.float32(count))
                off *= off
                about = seen.sums(off)
            sums[index] = (count, total, about)

        self._each_numbered(blocks, work)
        shape = (len(rows), seen.channels)
        mean, var = np.zeros(shape), np.zeros(shape)
        for (groups, _), (_, total, _) in zip(blocks, sums, strict=True):
            mean[groups] += total
        count = rows.shape[1] * seen.fold
        mean /= count
        if squares:
            for (groups, _), (n, total, about) in zip(blocks, sums, strict=True):
                away = total.astype(np.float64) / np.float32(n) - mean[groups]
                var[groups] += n * away**2 + (0 if about is None else about)
        return mean, var / count

    def mean_variance_backward(
        self, y: Array, dy: Array, dx: Array, kept: int, deviation: Array | None
    ) -> None:
        """dx = (dy - mean of dy - y mean of (y dy)) / deviation; dx may be dy."""
        seen = _see(kept, y, dy, dx) if y.size > BLOCK_COUNT else None
        if seen is None:
            super().mean_variance_backward(y, dy, dx, kept, deviation)
            return
        values, rows, out = seen.arrays
        squares = deviation is not None
        mean, both = self._gradient_means(seen, values, rows, squares=squares)
        scale = None
        if deviation is not None:
            scale = np.float32(1) / deviation.reshape(mean.shape)

        def work(groups: slice, places: slice) -> None:
            target = out[groups, places]
            if scale is None:
                low = seen.spread(mean[groups])
                np.subtract(rows[groups, places], low, out=target)
                return
            lost = values[groups, places] * seen.spread(both[groups])
            lost += seen.spread(mean[groups])
            np.subtract(rows[groups, places], lost, out=target)
            target *= seen.spread(scale[groups])

        self._each(seen, work)

    def _gradient_means(
        self, seen: _Seen, values: Array, rows: Array, *, squares: bool
    ) -> tuple[Array, Array]:
        """Means of dy and of y dy for each group and channel, float32."""
        blocks = seen.blocks
        sums: list[tuple[Array, Array | None]] = [(rows, None)] * len(blocks)

        def work(index: int, groups: slice, places: slice) -> None:
            part = rows[groups, places]
            product = seen.sums(values[groups, places] * part) if squares else None
            sums[index] = (seen.sums(part), product)

        self._each_numbered(blocks, work)
        mean = np.zeros((len(rows), seen.channels))
        both = np.zeros_like(mean)
        for (groups, _), (total, product) in zip(blocks, sums, strict=True):
            mean[groups] += total
            if product is not None:
                both[groups] += product
        count = rows.shape[1] * seen.fold
        return (mean / count).astype(np.float32), (both / count).astype(np.float32)

    def _each(self, seen: _Seen, work: Callable[[slice, slice], None]) -> None:
        self._each_numbered(seen.blocks, lambda _, g, p: work(g, p))

    def _each_numbered(
        self,
        blocks: list[tuple[slice, slice]],
        work: Callable[[int, slice, slice], None],
    ) -> None:
        """Do some work for every block, which it is given with its number."""

        def piece(index: int) -> Callable[[], None]:
            return lambda: work(index, *blocks[index])

        self._pool.run_many([piece(i) for i in range(len(blocks))])
