"""A step of an LSTM on oneDNN: a few rows at a time, each gate in one piece."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    PostOp,
    Primitive,
    Prop,
)
from poseidon_caffe.backend.cpu.shares import in_shares
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["DnnlLstmUnit"]

_FLOAT32 = np.dtype(np.float32)


class _Rows:
    """The step for ``rows`` rows of ``cells`` cells; every array without gaps."""

    def __init__(self, dnnl: Dnnl, rows: int, cells: int) -> None:
        self._dnnl, count = dnnl, rows * cells
        self._flat = flat = dnnl.desc((count,), (1,))
        side = dnnl.desc((4, rows, cells), (cells, 4 * cells, 1))
        apart = dnnl.desc((4, rows, cells), (count, cells, 1))
        self._take, self._put = dnnl.reorder(side, apart), dnnl.reorder(apart, side)
        self._sigmoid = self._function(Alg.LOGISTIC, 3 * count)
        self._tanh = self._function(Alg.TANH, count)
        times, plus = PostOp(Alg.MUL, flat), PostOp(Alg.ADD, flat)
        minus = PostOp(Alg.LINEAR, alpha=-1.0)
        rest = PostOp(Alg.LINEAR, alpha=-1.0, beta=1.0)
        self._mul, self._mul_add = self._product(), self._product(plus)
        #: a (1 - a) b c of the gates i, f and o.
        self._gate_slope = self._product(minus, plus, times, times)
        #: (1 - a^2) b c [+ d].
        self._tanh_slope = self._product(rest, times, times)
        self._cell_slope = self._product(rest, times, times, plus)
        whole = [empty_array(4 * count).reshape(4, rows, cells) for _ in range(2)]
        self._gates, self._slopes = whole
        self._first_three = self._gates[:3].reshape(-1)
        self._spare = [empty_array(count) for _ in range(2)]

    def _function(self, alg: Alg, count: int) -> Primitive:
        flat = self._dnnl.desc((count,), (1,))
        desc = self._dnnl.describe(
            "eltwise_forward", Prop.INFERENCE, alg, flat, flat, 0.0, 0.0
        )
        return Primitive(desc, {Arg.SRC: flat, Arg.DST: flat})

    def _product(self, *then: PostOp) -> Primitive:
        """``run(a, b, operands of then..., result)``."""
        flat, attr = self._flat, self._dnnl.attr(then=then)
        desc = self._dnnl.describe("binary", Alg.MUL, flat, flat, flat, attr=attr)
        operands: dict[int, Desc] = {Arg.SRC: flat, Arg.SRC_1: flat}
        for i, op in enumerate(then):
            if op.operand is not None:
                operands[Arg.POST_OP * (i + 1) | Arg.SRC_1] = flat
        return Primitive(desc, {**operands, Arg.DST: flat})

    def _open(self, x: Array, cont: Array) -> tuple[Array, Array, Array, Array]:
        """Gates i, f (times ``cont``), o and g."""
        self._take(x, self._gates)
        i, f, o, g = self._gates
        self._sigmoid(self._first_three, self._first_three)
        self._tanh(g, g)
        if (cont != 1).any():
            f *= cont[:, None]
        return i, f, o, g

    def forward(self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array) -> None:
        """c = f c_prev + i g and h = o tanh(c)."""
        i, f, o, g = self._open(x, cont)
        product, tanh_c = self._spare
        self._mul(i, g, product)
        self._mul_add(f, c_prev, product, c)
        self._tanh(c, tanh_c)
        self._mul(o, tanh_c, h)

    def backward(
        self,
        c_prev: Array,
        x: Array,
        cont: Array,
        c: Array,
        dc: Array,
        dh: Array,
        dc_prev: Array | None,
        dx: Array | None,
    ) -> None:
        """dc_prev and dx, each when given."""
        i, f, o, g = self._open(x, cont)
        total, tanh_c = self._spare
        self._tanh(c, tanh_c)
        self._cell_slope(tanh_c, tanh_c, o, dh, dc, total)
        if dx is not None:
            di, df, do, dg = self._slopes
            self._gate_slope(i, i, i, total, g, di)
            self._gate_slope(f, f, f, total, c_prev, df)
            self._gate_slope(o, o, o, tanh_c, dh, do)
            self._tanh_slope(g, g, i, total, dg)
            self._put(self._slopes, dx)
        if dc_prev is not None:
            self._mul(total, f, dc_prev)


class DnnlLstmUnit:
    """Runs the step on all threads; makes each kernel once."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[int, int, int], _Rows] = {}

    @staticmethod
    def takes(*arrays: Array | None) -> bool:
        """Whether all that are given are float32 without gaps, and not empty."""
        return all(
            a is None or (a.dtype == _FLOAT32 and a.flags.c_contiguous and a.size)
            for a in arrays
        )

    def run(
        self, dnnl: Dnnl, pool: ThreadPool, *arrays: Array | None, back: bool
    ) -> None:
        """Arguments of `_Rows.forward`, or of its ``backward`` if ``back``."""
        first = arrays[0]
        assert first is not None
        rows, cells = first.shape

        def work(thread: int, part: slice) -> None:
            key = (thread, part.stop - part.start, cells)
            if key not in self._kernels:
                self._kernels[key] = _Rows(dnnl, *key[1:])
            kernel = self._kernels[key]
            pieces = [None if array is None else array[part] for array in arrays]
            step: Callable[..., None] = kernel.backward if back else kernel.forward
            step(*pieces)

        in_shares(pool, dnnl, rows, max(1, 2 * BLOCK_COUNT // cells), work)
