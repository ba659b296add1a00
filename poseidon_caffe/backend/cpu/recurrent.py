"""Recurrences on oneDNN's matmul, gates in NumPy on memory that is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.dnnl import ANY, Arg, Desc, Dnnl, Primitive, Query
from poseidon_caffe.backend.cpu.lstm_unit import DnnlLstmUnit
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.backend.reference.recurrent import ReferenceRecurrent
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuLstm", "CpuRecurrent", "CpuRnn"]

_FLOAT32 = np.dtype(np.float32)


def _empty(*shape: int) -> Array:
    return empty_array(int(np.prod(shape, dtype=np.int64))).reshape(shape)


class _StepProduct:
    """y (m, n) (+)= x (m, k) b, with b packed once for all steps.

    A step's few rows make little use of the weights, so that packing them again
    at every step, as gemm does, would take as long as the product.
    """

    def __init__(
        self, dnnl: Dnnl, m: int, n: int, k: int, strides: Shape, *, add: bool
    ) -> None:
        x, y = dnnl.desc((m, k), (k, 1)), dnnl.desc((m, n), (n, 1))
        attr = dnnl.attr(sum_scale=1.0) if add else None
        desc = dnnl.describe("matmul", x, dnnl.desc((k, n), ANY), None, y, attr=attr)
        wanted = desc.desc(Query.WEIGHTS)
        operands: dict[int, Desc] = {Arg.SRC: x, Arg.WEIGHTS: wanted, Arg.DST: y}
        self._run = Primitive(desc, operands)
        self._reorder = dnnl.reorder(dnnl.desc((k, n), strides), wanted)
        self._packed = empty_array(wanted.size_bytes // 4)

    def pack(self, w: Array) -> None:
        """Take the weights for the products to come."""
        self._reorder(w, self._packed)

    def __call__(self, x: Array, y: Array) -> None:
        self._run(x, self._packed, y)


class _Recurrence:
    """What both kinds share: the products, cont and the weights' gradient."""

    def __init__(
        self, dnnl: Dnnl, steps: int, streams: int, outputs: int, inputs: int
    ) -> None:
        self._dnnl = dnnl
        self._up = _StepProduct(dnnl, streams, inputs, outputs, (1, outputs), add=True)
        self._down = _StepProduct(
            dnnl, streams, outputs, inputs, (outputs, 1), add=False
        )
        #: What the recurrent weights see: cont_t h_{t-1}.
        self._before = _empty(steps, streams, outputs)
        self._dh = _empty(streams, outputs)
        self._spare = _empty(streams, outputs)

    def _weight_gradient(
        self, dz: Array, dw: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= sum over all steps, as one product."""
        if dw is None:
            return
        before = self._before
        self._dnnl.sgemm(
            dz.reshape(-1, dz.shape[2]), before.reshape(-1, before.shape[2]), dw,
            trans_a=True, trans_b=False, alpha=1.0, beta=1.0 if accumulate else 0.0,
        )  # fmt: skip


class CpuLstm(_Recurrence):
    """`SequenceKernel` of an LSTM, float32."""

    def __init__(self, dnnl: Dnnl, steps: int, streams: int, outputs: int) -> None:
        super().__init__(dnnl, steps, streams, outputs, 4 * outputs)
        self._cells = _empty(steps + 1, streams, outputs)
        #: i, f, o and g of every step, each in one piece: NumPy is several times as
        #: fast on those as on slices of a product's rows.
        self._gates = _empty(steps, 4, streams, outputs)
        self._slopes = _empty(4, streams, outputs)
        self._tanh = _empty(steps, streams, outputs)
        self._dc = _empty(streams, outputs)

    def forward(
        self,
        z: Array,
        static: Array | None,
        w: Array,
        cont: Array,
        start: Sequence[Array],
        h: Array,
        last: Sequence[Array],
    ) -> None:
        """Steps 1 to T; see `SequenceKernel`."""
        self._up.pack(w)
        cells, previous = self._cells, start[0]
        cells[0] = start[1]
        for t in range(len(z)):
            before, inputs, factor = self._before[t], z[t], cont[t][:, None]
            np.multiply(previous, factor, out=before)
            self._up(before, inputs)
            if static is not None:
                inputs += static
            gates = self._gates[t]
            _open_gates(_by_gate(inputs), factor, gates)
            _cell_and_hidden(
                gates, cells[t], cells[t + 1], self._tanh[t], h[t], self._spare
            )
            previous = h[t]
        last[0][...], last[1][...] = previous, cells[-1]

    def backward(
        self,
        h: Array,
        w: Array,
        cont: Array,
        dh: Array,
        dz: Array,
        dw: Array | None,
        *,
        accumulate: bool = False,
    ) -> None:
        """Steps T to 1; see `SequenceKernel`."""
        self._down.pack(w)
        dc, total = self._dc, self._dh
        dc[...] = 0
        total[...] = dh[-1]
        for t in reversed(range(len(h))):
            _unit_backward(
                self._gates[t], self._cells[t], self._tanh[t], dc, total,
                self._slopes, self._spare,
            )  # fmt: skip
            _by_gate(dz[t])[...] = self._slopes
            if t:
                self._down(dz[t], total)
                total *= cont[t][:, None]
                total += dh[t - 1]
        self._weight_gradient(dz, dw, accumulate=accumulate)


class CpuRnn(_Recurrence):
    """`SequenceKernel` of a plain recurrence, float32."""

    def __init__(self, dnnl: Dnnl, steps: int, streams: int, outputs: int) -> None:
        super().__init__(dnnl, steps, streams, outputs, outputs)

    def forward(
        self,
        z: Array,
        static: Array | None,
        w: Array,
        cont: Array,
        start: Sequence[Array],
        h: Array,
        last: Sequence[Array],
    ) -> None:
        """Steps 1 to T; see `SequenceKernel`."""
        self._up.pack(w)
        previous = start[0]
        for t in range(len(z)):
            before, total = self._before[t], z[t]
            np.multiply(previous, cont[t][:, None], out=before)
            self._up(before, total)
            if static is not None:
                total += static
            np.tanh(total, out=h[t])
            previous = h[t]
        last[0][...] = previous

    def backward(
        self,
        h: Array,
        w: Array,
        cont: Array,
        dh: Array,
        dz: Array,
        dw: Array | None,
        *,
        accumulate: bool = False,
    ) -> None:
        """Steps T to 1; see `SequenceKernel`."""
        self._down.pack(w)
        total, slope = self._dh, self._spare
        total[...] = dh[-1]
        for t in reversed(range(len(h))):
            np.multiply(h[t], h[t], out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(total, slope, out=dz[t])
            if t:
                self._down(dz[t], total)
                total *= cont[t][:, None]
                total += dh[t - 1]
        self._weight_gradient(dz, dw, accumulate=accumulate)


def _by_gate(z: Array) -> Array:
    """Gates (N, 4 H) as a view (4, N, H)."""
    return z.reshape(len(z), 4, z.shape[1] // 4).transpose(1, 0, 2)


def _open_gates(inputs: Array, cont: Array, gates: Array) -> None:
    """Gates' non-linearities, (4, N, H), with f times ``cont`` (N, 1).

    sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, and NumPy's tanh is vectorised.
    """
    np.multiply(inputs[:3], 0.5, out=gates[:3])
    gates[3] = inputs[3]
    np.tanh(gates, out=gates)
    three = gates[:3]
    three *= 0.5
    three += 0.5
    gates[1] *= cont


def _cell_and_hidden(
    gates: Array, c_prev: Array, c: Array, tanh_c: Array, h: Array, spare: Array
) -> None:
    """c = f c_prev + i g, tanh_c = tanh(c), h = o tanh_c."""
    i, f, o, g = gates
    np.multiply(f, c_prev, out=c)
    np.multiply(i, g, out=spare)
    c += spare
    np.tanh(c, out=tanh_c)
    np.multiply(o, tanh_c, out=h)


def _unit_backward(
    gates: Array,
    c_prev: Array,
    tanh_c: Array,
    dc: Array,
    dh: Array,
    dz: Array,
    spare: Array,
) -> None:
    """Gradients dz of the gates; ``dc`` goes from this step's c to the last one's."""
    i, f, o, g = gates
    di, df, do, dg = dz
    np.multiply(tanh_c, tanh_c, out=spare)
    np.subtract(1, spare, out=spare)
    spare *= o
    spare *= dh
    dc += spare
    three, slope = gates[:3], dz[:3]
    np.subtract(1, three, out=slope)
    slope *= three
    do *= tanh_c
    do *= dh
    np.multiply(dc, c_prev, out=spare)
    df *= spare
    np.multiply(dc, g, out=spare)
    di *= spare
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    dg *= i
    dg *= dc
    dc *= f


class CpuRecurrent(ReferenceRecurrent):
    """`RecurrentOps` with sequences on oneDNN."""

    dnnl: Dnnl
    _pool: ThreadPool
    _workspace: Workspace

    def __init__(self) -> None:
        super().__init__()
        self._unit = DnnlLstmUnit()

    def lstm(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """Caffe's LSTM; gates in the order i, f, o, g."""
        if np.dtype(dtype) == _FLOAT32 and streams:
            return CpuLstm(self.dnnl, steps, streams, outputs)
        return super().lstm(steps, streams, outputs, dtype)

    def rnn(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """h_t = tanh(z_t + static + w (cont_t h_{t-1}))."""
        if np.dtype(dtype) == _FLOAT32 and streams:
            return CpuRnn(self.dnnl, steps, streams, outputs)
        return super().rnn(steps, streams, outputs, dtype)

    def _unit_memory(self, c: Array) -> tuple[Array, Array, Array, Array]:
        """Gates, their slopes, tanh of the cells and spare values, for one step."""
        n, h = c.shape
        whole = self._workspace.take("lstm unit", (10, n, h), c.dtype)
        return whole[:4], whole[4:8], whole[8], whole[9]

    def _in_rows(
        self, work: Callable[..., None], c: Array, arrays: Sequence[Array | None]
    ) -> None:
        """``work(*arrays)`` for a few rows at a time, so that they stay in the cache.

        Args:
            work: treats every row by itself.
            c: a row's cells.
            arrays: their first axis are the rows; what is None stays so.
        """
        step = max(1, BLOCK_COUNT // max(c.shape[1], 1))

        def piece(first: int) -> Callable[[], None]:
            rows = slice(first, first + step)
            parts = [None if array is None else array[rows] for array in arrays]
            return lambda: work(*parts)

        self._pool.run_many([piece(first) for first in range(0, len(c), step)])

    def lstm_unit(
        self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array
    ) -> None:
        """One step: c = f c_prev + i g and h = o tanh(c)."""
        if self._unit.takes(c_prev, x, cont, c, h):
            arrays = (c_prev, x, cont, c, h)
            self._unit.run(self.dnnl, self._pool, *arrays, back=False)
            return
        self._in_rows(self._unit_rows, c, (c_prev, x, cont, c, h))

    def _unit_rows(
        self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array
    ) -> None:
        gates, _, tanh_c, spare = self._unit_memory(c)
        _open_gates(_by_gate(x), cont[:, None], gates)
        _cell_and_hidden(gates, c_prev, c, tanh_c, h, spare)

    def lstm_unit_backward(
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
        arrays = (c_prev, x, cont, c, dc, dh, dc_prev, dx)
        if self._unit.takes(*arrays):
            self._unit.run(self.dnnl, self._pool, *arrays, back=True)
        else:
            self._in_rows(self._unit_backward_rows, c, arrays)

    def _unit_backward_rows(
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
        gates, slopes, tanh_c, spare = self._unit_memory(c)
        _open_gates(_by_gate(x), cont[:, None], gates)
        np.tanh(c, out=tanh_c)
        total = np.empty_like(dc) if dc_prev is None else dc_prev
        total[...] = dc
        _unit_backward(gates, c_prev, tanh_c, total, dh, slopes, spare)
        if dx is not None:
            _by_gate(dx)[...] = slopes
