"""Windows as columns: a few rows at a time, so that they stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.elementwise import CpuElementwise
from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.backend.reference.columns import (
    ReferenceColumns,
    add_columns,
    copy_columns,
)
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuColumns"]

_CACHED_COUNT = 8 * BLOCK_COUNT  # 512 KiB of columns
_FEW_CHANNELS = 16


class CpuColumns(CpuElementwise, ReferenceColumns):
    """`ColumnOps` in NumPy, image by image and row by row on all threads.

    Every offset of the kernel passes over all of its columns, which channels-last
    are neighbours in memory: what one offset leaves in the cache the next one uses.
    Few channels side by side go through plain columns, as NumPy is slow along short
    axes.
    """

    _pool: ThreadPool
    _workspace: Workspace

    def im2col(self, x: Array, columns: Array, geometry: ColumnGeometry) -> None:
        """Fill ``columns`` from ``x``."""
        places = _few_places(x, columns)
        if places is not None:
            self._by_plain(x, columns, places, geometry, back=False)
            return
        rows = columns.shape[2 + len(geometry.kernel)]
        step, padded = _rows_at_once(columns, rows), geometry.overhangs(x.shape[2:])

        def piece(image: int, first: int) -> Callable[[], None]:
            def work() -> None:
                source = x[image : image + 1]
                part = _rows(columns, len(geometry.kernel), image, first, first + step)
                if padded:
                    part[...] = 0
                copy_columns(source, part, geometry, first)

            return work

        starts = range(0, rows, step)
        self._pool.run_many([piece(n, r) for n in range(x.shape[0]) for r in starts])

    def col2im(self, columns: Array, x: Array, geometry: ColumnGeometry) -> None:
        """x = the sum of every column entry that `im2col` took from it."""
        places = _few_places(x, columns)
        if places is not None:
            self._by_plain(x, columns, places, geometry, back=True)
            return
        rows = columns.shape[2 + len(geometry.kernel)]
        step = _rows_at_once(columns, rows)
        # Rows share elements of x, images and channels do not.
        cuts = 1 if x.shape[0] >= self._pool.threads else self._pool.threads
        ends = [x.shape[1] * i // cuts for i in range(cuts + 1)]

        def piece(image: int, channels: slice) -> Callable[[], None]:
            def work() -> None:
                target = x[image : image + 1, channels]
                target[...] = 0
                for r in range(0, rows, step):
                    part = _rows(columns, len(geometry.kernel), image, r, r + step)
                    add_columns(part[:, channels], target, geometry, r)

            return work

        parts = [slice(ends[i], ends[i + 1]) for i in range(cuts)]
        self._pool.run_many(
            [piece(n, part) for n in range(x.shape[0]) for part in parts]
        )

    def _by_plain(
        self,
        x: Array,
        columns: Array,
        places: Array,
        geometry: ColumnGeometry,
        *,
        back: bool,
    ) -> None:
        """A few images at a time, by columns in C order that oneDNN reorders.

        ``places`` are the columns as (N, C * kernel, *windows); ``back``: `col2im`.
        """
        step = self._pool.threads
        shape = (min(step, len(x)), *columns.shape[1:])
        plain = self._workspace.take("columns", shape, columns.dtype)

        def piece(image: int, at: int) -> Callable[[], None]:
            source, target = x[image : image + 1], plain[at : at + 1]
            if back:
                return lambda: ReferenceColumns.col2im(self, target, source, geometry)
            return lambda: ReferenceColumns.im2col(self, source, target, geometry)

        for first in range(0, len(x), step):
            count = min(step, len(x) - first)
            here = places[first : first + count]
            there = plain[:count].reshape(here.shape)
            if back:
                self._move(here, there)
            self._pool.run([piece(first + i, i) for i in range(count)])
            if not back:
                self._move(there, here)


def _rows_at_once(columns: Array, rows: int) -> int:
    """Rows of one image's windows whose columns fit the cache.

    All of them where every offset writes a plane of its own.
    """
    axes = (columns.ndim - 2) // 2
    if columns.strides[2] >= columns.strides[2 + axes]:
        return max(rows, 1)
    count = math.prod(columns.shape[1:])
    return max(1, min(rows, _CACHED_COUNT * rows // max(count, 1)))


def _few_places(x: Array, columns: Array) -> Array | None:
    """``columns`` as (N, C * kernel, *windows) if few channels lie side by side."""
    axes = x.ndim - 2
    if x.shape[1] >= _FEW_CHANNELS or x.strides[1] >= x.strides[-1] or not x.size:
        return None
    places = columns.reshape(len(x), -1, *columns.shape[2 + axes :])
    return places if np.may_share_memory(places, columns) else None


def _rows(columns: Array, axes: int, image: int, first: int, stop: int) -> Array:
    """Columns of one image for some windows along the first spatial axis."""
    taps = (slice(None),) * (axes + 1)
    return columns[(slice(image, image + 1), *taps, slice(first, stop))]
