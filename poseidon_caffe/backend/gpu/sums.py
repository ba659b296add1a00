"""Sums over axes and over whole arrays, always added in the same order."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily, memory_order
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.gpu.spread import Spread, spread_over
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuSums"]

_RUN = 16  # of a thread at least: two runs of sums.cu
_PIECE = _RUN * THREADS
_ENOUGH_BLOCKS = 2048
_COLUMNS = 32
_WHOLE_BLOCKS = 512
_FEW_ROWS = 512  # a batch of vectors, whose sums no second launch is worth


class GpuSums(GpuFamily):
    """The sums among `ElementwiseOps`, and those that other families need."""

    def sum_outer(
        self, x: Array, axis: int, shape: tuple[int, ...], out: Array,
        times: Array | None = None, *, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """out (+)= x [* times] summed over all axes but axis..axis+len(shape)."""
        plain, products = (out, None) if times is None else (None, out)
        self.sum_spread(x, times, axis, shape, plain, products, accumulate=accumulate)

    def sum_gated(
        self, x: Array, gate: Array, axis: int, shape: Shape, out: Array
    ) -> None:
        """out += x * gate summed likewise, where gate <= 0 only."""
        self.sum_spread(x, gate, axis, shape, None, out, accumulate=True, gated=True)

    def sum_spread(
        self,
        x: Array,
        times: Array | None,
        axis: int,
        shape: Shape,
        plain: Array | None,
        products: Array | None,
        *,
        accumulate: bool,
        gated: bool = False,
    ) -> None:
        """plain (+)= sums of x and products (+)= sums of x * times, those given.

        Both of ``shape``, kept from ``axis`` on; x and times are read once.
        """
        if x.size == 0:
            for out in (plain, products):
                if out is not None and not accumulate:
                    self.memory.clear(out)
            return
        spread = spread_over([x, times], axis, shape)
        with self.alike([x, times], [], spread.order) as (ins, _):
            sizes, outputs, pieces = _plan(spread)
            halves = [
                self.scratch.take(f"sums {i}", (pieces * outputs,), np.float64)
                if out is not None
                else None
                for i, out in enumerate((plain, products))
            ]
            name, blocks, numbers = sizes
            self.kernels("sums").blocks(
                name, x.dtype, blocks, *ins, *halves, *numbers, gated
            )
            for half, out in zip(halves, (plain, products), strict=True):
                if half is not None and out is not None:
                    self._finish(half, out, x.dtype, pieces, accumulate=accumulate)

    def relu_backward_sums(
        self, y: Array, dy: Array, dx: Array, slope: float, sums: Array, *,
        accumulate: bool = False,
    ) -> None:  # fmt: skip
        """dx = what a ReLU passes of dy; sums (C,) (+)= dx over all axes but 1."""
        if dx.size == 0:
            if not accumulate:
                self.memory.clear(sums)
            return
        spread = spread_over([dx, dy, y], 1, sums.shape)
        with self.alike([y, dy], [dx], spread.order) as (ins, outs):
            (kernel, blocks, numbers), outputs, pieces = _plan(spread, _FEW_ROWS)
            half: Array | None = None
            fits = sums.dtype == param_dtype(dx.dtype) and sums.flags.c_contiguous
            if pieces > 1 or not fits:
                half = self.scratch.take("sums 0", (pieces * outputs,), np.float64)
            whole = sums if half is None else None
            self.kernels("sums").blocks(
                kernel.replace("sum_", "pass_"), dx.dtype, blocks, *ins, *outs, half,
                whole, accumulate, *numbers, float(slope),
            )  # fmt: skip
            if half is not None:
                self._finish(half, sums, dx.dtype, pieces, accumulate=accumulate)

    def _finish(
        self,
        partial: Array,
        out: Array,
        dtype: np.dtype,
        pieces: int,
        *,
        accumulate: bool,
    ) -> None:
        wanted = param_dtype(dtype)
        total = out
        if out.dtype != wanted or not out.flags.c_contiguous:
            total = self.scratch.take("sums rounded", out.shape, wanted)
            if accumulate:
                self.copy(out, total)
        kernels, outputs = self.kernels("sums"), out.size
        if pieces == 1:
            kernels.each(
                "finish_single", dtype, outputs, partial, total, outputs, accumulate
            )
        else:
            numbers = outputs, pieces, accumulate
            threads = 32 if pieces <= 4 * 32 else THREADS
            kernels.blocks(
                "finish", dtype, outputs, partial, total, *numbers, threads=threads
            )
        if total is not out:
            self.copy(total, out)

    def sum_copies(self, src: Array, axis: int, copies: int, dst: Array) -> None:
        """dst = the sum of ``copies`` equal parts of ``src`` along ``axis``."""
        if dst.size == 0:
            return
        axis %= dst.ndim
        order = memory_order([dst, src])
        inner = math.prod(dst.shape[i] for i in order[order.index(axis) :])
        with self.alike([src], [dst], order) as (ins, outs):
            self.kernels("sums").each(
                "sum_copies", dst.dtype, dst.size, *ins, *outs, copies, inner, dst.size
            )

    def asum(self, x: Array) -> float:
        """Sum of absolute values, in double precision; waits for the device."""
        return self._norm(x, squares=False)

    def sumsq(self, x: Array) -> float:
        """Sum of squares, in double precision; waits for the device."""
        return self._norm(x, squares=True)

    def _norm(self, x: Array, *, squares: bool) -> float:
        if x.size == 0:
            return 0.0
        blocks = min(-(-x.size // THREADS), _WHOLE_BLOCKS)
        partial = self.scratch.take("norm", (blocks,), np.float64)
        with self.alike([x], []) as (ins, _):
            self.kernels("sums").blocks(
                "norm_pieces", x.dtype, blocks, *ins, partial, squares, x.size
            )
        return float(self._downloaded(partial).sum())

    def first_bad(self, x: Array) -> int:
        """C-order index of the first NaN or infinity, -1 if none; waits."""
        if x.size == 0:
            return -1
        blocks = min(-(-x.size // THREADS), _WHOLE_BLOCKS)
        found = self.scratch.take("bad", (blocks,), np.int64)
        with self.alike([x], [], tuple(range(x.ndim))) as (ins, _):
            self.kernels("sums").blocks(
                "find_bad", x.dtype, blocks, *ins, found, x.size
            )
        first = int(self._downloaded(found).min())
        return -1 if first == x.size else first

    def _downloaded(self, array: Array) -> Array:
        values = np.empty(array.shape, array.dtype)
        self.memory.download(array, values)
        return values


_Plan = tuple[tuple[str, int, tuple[int, ...]], int, int]


def _plan(spread: Spread, rows: int = _RUN * THREADS // _COLUMNS) -> _Plan:
    """((kernel, blocks, its numbers), outputs, pieces of an output).

    How an output is cut into pieces (of so many ``rows`` at least) follows from the
    shapes alone, so sums are repeatable.
    """
    a, b, c = spread.lengths
    if spread.joins_fastest:
        # (outer, kept, inner); without a parameter's axis one row of everything.
        pieces, piece = _pieces(a * c, _PIECE, b)
        return ("sum_rows", pieces * b, (a, b, c, piece)), b, pieces
    groups = a * -(-c // _COLUMNS)
    pieces, piece = _pieces(b, rows, groups)
    return ("sum_columns", pieces * groups, (a, b, c, piece)), a * c, pieces


def _pieces(count: int, least: int, others: int) -> tuple[int, int]:
    """(how many pieces, how long) for ``count`` things, next to ``others`` blocks."""
    most = max(1, _ENOUGH_BLOCKS // others)
    pieces = min(-(-count // least), most)
    piece = -(-count // max(pieces, 1))
    return -(-count // piece), piece
