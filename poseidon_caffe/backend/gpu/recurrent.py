"""Recurrences on a GPU: one product and one kernel a step, no copy to the host."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.gpu.blas import GpuBlas
from poseidon_caffe.backend.gpu.device import Operand
from poseidon_caffe.backend.gpu.launcher import Launcher
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.types import Array

__all__ = ["GpuLstm", "GpuRecurrent", "GpuRnn"]


class _GpuSequence:
    """What both kinds of `SequenceKernel` share; ``gates`` inputs an output.

    Args:
        ops: the backend.
        steps: T.
        streams: N.
        outputs: H.
        dtype: of the activations.
    """

    gates = 1

    def __init__(
        self,
        ops: GpuRecurrent,
        steps: int,
        streams: int,
        outputs: int,
        dtype: type | np.dtype,
    ) -> None:
        self.ops, self.dtype = ops, np.dtype(dtype)
        #: What states and sums between steps are kept as: P of the kernels.
        self.exact = param_dtype(self.dtype)
        self.steps, self.streams, self.outputs = steps, streams, outputs
        #: What the recurrent weights see: cont_t h_{t-1}.
        self.before = self.make(steps, outputs, self.dtype)

    def make(self, steps: int, width: int, dtype: np.dtype) -> Array:
        """Zeros (steps, N, width) on the device, which stay where they are."""
        flat = self.ops.memory.zeros(steps * self.streams * width, dtype)
        return flat.reshape(steps, self.streams, width)

    @property
    def kernels(self) -> Launcher:
        """Kernels of recurrent.cu."""
        return self.ops.kernels("recurrent")

    def each(self, kernel: str, *arguments: Array | None) -> None:
        """Run a kernel over streams and outputs."""
        count = self.streams * self.outputs
        self.kernels.each(kernel, self.dtype, count, *arguments, count, self.outputs)

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
        if not h.size:
            return
        weights = self.ops.rounded("recurrent weights", w, self.dtype)
        cont = self.ops.rounded("sequence marks", cont, self.dtype)
        self.each("gate_state", start[0], cont[0], self.before[0])
        self.begin(start)
        inputs, streams = self.gates * self.outputs, self.streams
        for t in range(self.steps):
            self.ops.device.gemm(
                streams, inputs, self.outputs,
                1.0, Operand(self.before[t], self.outputs),
                Operand(weights, self.outputs, transposed=True),
                1.0, Operand(z[t], inputs),
            )  # fmt: skip
            self.step(t, z[t], static, cont, h[t])
        self.ops.copy(h[self.steps - 1], last[0])
        self.end(last)

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
        inputs, outputs, streams = self.gates * self.outputs, self.outputs, self.streams
        if h.size:
            weights = self.ops.rounded("recurrent weights", w, self.dtype)
            cont = self.ops.rounded("sequence marks", cont, self.dtype)
            carried = self.ops.scratch.take("carried", (streams, outputs), self.exact)
            for t in reversed(range(self.steps)):
                final = t == self.steps - 1
                back, keep = (None, None) if final else (carried, cont[t + 1])
                self.step_back(t, h[t], dh[t], back, keep, dz[t])
                if t:
                    self.ops.device.gemm(
                        streams, outputs, inputs,
                        1.0, Operand(dz[t], inputs), Operand(weights, outputs),
                        0.0, Operand(carried, outputs),
                    )  # fmt: skip
        if dw is not None:
            rows = self.steps * streams
            self.ops.inner_product_backward_weights(
                self.before.reshape(rows, outputs), dz.reshape(rows, inputs), dw, None,
                accumulate=accumulate,
            )  # fmt: skip

    def ahead(self, t: int, cont: Array) -> tuple[Array | None, Array | None]:
        """cont of the next step and where what its weights see goes, if it exists."""
        if t + 1 == self.steps:
            return None, None
        return cont[t + 1], self.before[t + 1]

    @abstractmethod
    def begin(self, start: Sequence[Array]) -> None:
        """Take the states besides h."""

    @abstractmethod
    def end(self, last: Sequence[Array]) -> None:
        """Give the states besides h."""

    @abstractmethod
    def step(
        self, t: int, z: Array, static: Array | None, cont: Array, h: Array
    ) -> None:
        """One step after its product; ``cont`` is of all steps."""

    @abstractmethod
    def step_back(
        self,
        t: int,
        h: Array,
        dh: Array,
        carried: Array | None,
        keep: Array | None,
        dz: Array,
    ) -> None:
        """One step back; ``keep`` is the cont that ``carried`` came through."""


class GpuLstm(_GpuSequence):
    """`SequenceKernel` of an LSTM."""

    gates = 4

    def __init__(
        self,
        ops: GpuRecurrent,
        steps: int,
        streams: int,
        outputs: int,
        dtype: type | np.dtype,
    ) -> None:
        super().__init__(ops, steps, streams, outputs, dtype)
        #: c before the first and after every step.
        self._cells = self.make(steps + 1, outputs, self.exact)
        self._gates = self.make(steps, 4 * outputs, self.dtype)

    def begin(self, start: Sequence[Array]) -> None:
        """Take c."""
        self.ops.copy(start[1], self._cells[0])

    def end(self, last: Sequence[Array]) -> None:
        """Give c."""
        self.ops.copy(self._cells[self.steps], last[1])

    def step(
        self, t: int, z: Array, static: Array | None, cont: Array, h: Array
    ) -> None:
        """Open the gates."""
        keep, before = self.ahead(t, cont)
        self.each(
            "lstm_step", z, static, cont[t], keep, self._cells[t], self._cells[t + 1],
            self._gates[t], h, before,
        )  # fmt: skip

    def step_back(
        self,
        t: int,
        h: Array,
        dh: Array,
        carried: Array | None,
        keep: Array | None,
        dz: Array,
    ) -> None:
        """Gradients of the gates' inputs."""
        shape = (self.streams, self.outputs)
        dc = self.ops.scratch.take("gradient of c", shape, self.exact)
        self.each(
            "lstm_step_back", self._gates[t], self._cells[t], self._cells[t + 1], dc,
            dh, carried, keep, dz,
        )  # fmt: skip


class GpuRnn(_GpuSequence):
    """`SequenceKernel` of a plain recurrence."""

    def begin(self, start: Sequence[Array]) -> None:
        """There is no state besides h."""

    def end(self, last: Sequence[Array]) -> None:
        """There is no state besides h."""

    def step(
        self, t: int, z: Array, static: Array | None, cont: Array, h: Array
    ) -> None:
        """Take the tanh."""
        keep, before = self.ahead(t, cont)
        self.each("rnn_step", z, static, keep, h, before)

    def step_back(
        self,
        t: int,
        h: Array,
        dh: Array,
        carried: Array | None,
        keep: Array | None,
        dz: Array,
    ) -> None:
        """Gradient of the tanh's input."""
        self.each("rnn_step_back", h, dh, carried, keep, dz)


class GpuRecurrent(GpuBlas):
    """`RecurrentOps` on a GPU.

    Cells, and what goes back from step to step, are float32 where activations have
    16 bits.
    """

    def lstm(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """Caffe's LSTM; gates in the order i, f, o, g."""
        return GpuLstm(self, steps, streams, outputs, dtype)

    def rnn(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """h_t = tanh(z_t + static + w (cont_t h_{t-1}))."""
        return GpuRnn(self, steps, streams, outputs, dtype)

    def lstm_unit(
        self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array
    ) -> None:
        """One step: c = f c_prev + i g and h = o tanh(c)."""
        marks = self.rounded("sequence marks", cont, x.dtype)
        self.kernels("recurrent").each(
            "lstm_unit", x.dtype, c.size, c_prev, x, marks, c, h, c.size, c.shape[1]
        )

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
        marks = self.rounded("sequence marks", cont, x.dtype)
        self.kernels("recurrent").each(
            "lstm_unit_back", x.dtype, c.size,
            c_prev, x, marks, c, dc, dh, dc_prev, dx, c.size, c.shape[1],
        )  # fmt: skip
