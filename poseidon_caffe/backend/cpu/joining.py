"""Parts laid side by side, and copies summed: on oneDNN's concat and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, PostOp, Primitive, Prop
from poseidon_caffe.backend.cpu.elementwise import CpuElementwise
from poseidon_caffe.backend.cpu.layout import dense
from poseidon_caffe.backend.reference.elementwise import slices_along
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuJoining"]

_SMALL_COUNT = 1 << 14
_MAX_SOURCES = 16  # oneDNN's optimised concat takes no more
_SHORT_PART, _LONG_PART = 16, 4096  # elements of a row: else copies are as fast
_LONG_SUM = 1024  # elements of a row that NumPy sums as fast


class _Rows(NamedTuple):
    """How an array without gaps lies around one of its axes.

    Attributes:
        order: axes of more than one element, the outermost first.
        rows: elements of the axes before it in memory.
        inner: elements of the axes behind it.
    """

    order: Shape
    rows: int
    inner: int

    def fits(self, array: Array) -> bool:
        """Whether ``array``, of other length along the axis, lies so too."""
        expected = array.itemsize
        for axis in reversed(self.order):
            if array.shape[axis] != 1 and array.strides[axis] != expected:
                return False
            expected *= array.shape[axis]
        return array.dtype == np.float32

    def flat(self, array: Array) -> Array:
        """Its elements as they lie in memory, (rows, length * inner)."""
        rest = [i for i in range(array.ndim) if i not in self.order]
        return array.transpose([*self.order, *rest]).reshape(self.rows, -1)


def _rows(array: Array, axis: int) -> _Rows | None:
    """None for small arrays, gaps in memory or an axis of one element."""
    if array.size < _SMALL_COUNT or array.shape[axis] == 1 or not dense(array):
        return None
    axes = (i for i in range(array.ndim) if array.shape[i] > 1)
    order = tuple(sorted(axes, key=lambda i: -array.strides[i]))
    place = order.index(axis % array.ndim)
    rows = math.prod(array.shape[i] for i in order[:place])
    return _Rows(order, rows, array.size // (rows * array.shape[axis]))


class CpuJoining(CpuElementwise):
    """`ElementwiseOps.concat` and ``sum_copies`` of arrays without gaps in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._joins: dict[tuple[int, Shape], Primitive] = {}
        self._copy_sums: dict[tuple[int, int, int], Primitive] = {}

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""
        seen = _rows(dst, axis) if 1 < len(srcs) <= _MAX_SOURCES else None
        sizes = [src.shape[axis] for src in srcs]
        if (
            seen is None
            or not all(_SHORT_PART <= n * seen.inner <= _LONG_PART for n in sizes)
            or not all(seen.fits(src) for src in srcs)
            or len(slices_along(dst, axis, srcs, sizes)) < len(srcs)
        ):
            super().concat(srcs, axis, dst)
            return
        key = (seen.rows, tuple(n * seen.inner for n in sizes))
        if key not in self._joins:
            self._joins[key] = self._make_join(*key)
        self._joins[key](*srcs, dst)

    def _make_join(self, rows: int, widths: Shape) -> Primitive:
        parts = [self.dnnl.desc((rows, n), (n, 1)) for n in widths]
        total = sum(widths)
        return self.dnnl.concat(parts, 1, self.dnnl.desc((rows, total), (total, 1)))

    def sum_copies(self, src: Array, axis: int, copies: int, dst: Array) -> None:
        """dst = the sum of ``copies`` equal parts of ``src`` along ``axis``."""
        seen = _rows(src, axis) if copies > 1 else None
        if seen is None or not seen.fits(dst):
            super().sum_copies(src, axis, copies, dst)
            return
        width = dst.shape[axis] * seen.inner
        if 1 < width < _LONG_SUM:
            key = (seen.rows, copies, width)
            if key not in self._copy_sums:
                self._copy_sums[key] = self._make_copy_sum(*key)
            self._copy_sums[key](src, dst)
        else:
            parts = seen.flat(src).reshape(seen.rows, copies, width)
            self._sum_rows(parts, seen.flat(dst))

    def _make_copy_sum(self, rows: int, copies: int, width: int) -> Primitive:
        """The mean of each row of a channels-last image, times the row's length."""
        src = self.dnnl.desc(
            (1, width, rows, copies), (rows * copies * width, 1, copies * width, width)
        )
        dst = self.dnnl.desc((1, width, rows, 1), (rows * width, 1, width, width))
        window = ((1, copies), (1, copies), (0, 0), (0, 0), (0, 0))
        desc = self.dnnl.describe(
            "pooling_forward", Prop.INFERENCE, Alg.POOL_AVG_PADDED, src, dst, *window,
            attr=self.dnnl.attr(then=[PostOp(Alg.LINEAR, alpha=float(copies))]),
        )  # fmt: skip
        return Primitive(desc, {Arg.SRC: src, Arg.DST: dst})

    def _sum_rows(self, parts: Array, out: Array) -> None:
        """out (rows, width) = sums over axis 1 of (rows, copies, width), in blocks."""
        step = max(1, 2 * BLOCK_COUNT // (parts.shape[1] * parts.shape[2]))
        wide = BLOCK_COUNT if step == 1 else parts.shape[2]

        def piece(row: int, col: int) -> Callable[[], None]:
            rows, cols = slice(row, row + step), slice(col, col + wide)

            def work() -> None:
                np.add.reduce(parts[rows, :, cols], axis=1, out=out[rows, cols])

            return work

        self._pool.run_many(
            [
                piece(row, col)
                for row in range(0, len(out), step)
                for col in range(0, out.shape[1], wide)
            ]
        )
