"""Rows by number on a GPU, added up in the order of their places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.params import GpuParams
from poseidon_caffe.types import Array

__all__ = ["GpuIndexing"]

_MOST_BLOCKS = 1 << 20
#: Rows as wide as this give work enough without dealing places to lanes.
_WIDE_COUNT = 8192
_LANES = 8


class GpuIndexing(GpuParams):
    """`IndexingOps` on a GPU.

    An index is an int64 array of the device, as `NumberCheck.run` makes it, or a
    NumPy array, which is uploaded.  A number of -1 gives a row of zeros, and its
    gradient goes nowhere.
    """

    def gather_rows(
        self, x: Array, index: Array, y: Array, plus: Array | None = None
    ) -> None:
        """y[i] = x[index[i]] [+ plus]."""
        if not y.size:
            return
        places = self._row_places(index)
        width = y.size // len(y)
        tiles = -(-width // THREADS)
        blocks = min(len(y) * tiles, _MOST_BLOCKS)
        kernel = "gather_rows" if x.dtype == y.dtype else "gather_params"
        with self._as_rows(y, x, plus) as (flat_y, flat_x, flat_plus):
            self.kernels("indexing").blocks(
                kernel, y.dtype, blocks,
                flat_x, places, flat_y, flat_plus, len(y), width,
            )  # fmt: skip

    def scatter_add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool = False
    ) -> None:
        """dx (+)= sum of the rows dy[i] that go to each row, in a fixed order.

        The places are sorted by comparing all with all: M^2 comparisons for M places.
        """
        if not dx.size:
            return
        with self._as_rows(dx, dy, None, fill=accumulate) as (flat_dx, flat_dy, _):
            if not accumulate:
                self.memory.clear(flat_dx)
            if dy.size:
                self._add_rows(
                    flat_dy, self._row_places(index), flat_dx, accumulate=accumulate
                )

    def _add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool
    ) -> None:
        count, width = dy.shape
        keys, order = (
            self.scratch.take(f"places {name}", (count,), np.int32)
            for name in ("keys", "order")
        )
        kernels = self.kernels("indexing")
        kernels.blocks(
            "sort_places", dy.dtype, -(-count // THREADS), index, keys, order, count
        )
        lanes = 1 if width >= _WIDE_COUNT else _LANES
        tiles = -(-width * lanes // THREADS)
        kernels.blocks(
            "scatter_rows" if dx.dtype == dy.dtype else "scatter_params",
            dy.dtype, min(count * tiles, _MOST_BLOCKS),
            dy, keys, order, dx, count, width, tiles, lanes, accumulate,
        )  # fmt: skip

    def _row_places(self, index: Any) -> Array:
        """The numbers on the device."""
        if not isinstance(index, np.ndarray):
            there: Array = index.reshape(-1)
            return there
        there = self.scratch.take("row numbers", (index.size,), np.int64)
        self.memory.upload(index.astype(np.int64, copy=False).reshape(-1), there)
        return there

    @contextmanager
    def _as_rows(
        self, target: Array, source: Array, plus: Array | None, *, fill: bool = False
    ) -> Iterator[tuple[Array, Array, Array | None]]:
        """Target and source as C-order (rows, width) in one order of a row's elements.

        Both go as the target lies; what is in no such order goes through scratch
        memory, the target back again.
        """
        axes = range(1, target.ndim)
        order = (0, *sorted(axes, key=lambda i: (-target.strides[i], i)))
        written = self._ordered_rows("target", target, order, fill=fill)
        read = self._ordered_rows("source", source, order, fill=True)
        added = plus
        if plus is not None:
            inner = tuple(i - 1 for i in order[1:])
            seen = plus.reshape(target.shape[1:]).transpose(inner)
            added = self.plain(seen, "plus")
        yield written, read, added
        stored = target.transpose(order)
        if pointer(written) != pointer(target):
            self.copy(written.reshape(stored.shape), stored)

    def _ordered_rows(
        self, name: str, array: Array, order: tuple[int, ...], *, fill: bool
    ) -> Array:
        stored = array.transpose(order)
        shape = (len(array), math.prod(array.shape[1:]))
        if stored.flags.c_contiguous:
            return stored.reshape(shape)
        piece = self.scratch.take(f"rows {name}", shape, array.dtype)
        if fill:
            self.copy(stored, piece.reshape(stored.shape))
        return piece
