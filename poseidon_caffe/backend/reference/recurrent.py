"""Recurrences in NumPy, one step after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.types import Array

__all__ = ["ReferenceLstm", "ReferenceRecurrent", "ReferenceRnn", "gates_of"]


def gates_of(z: Array) -> tuple[Array, Array, Array, Array]:
    """Views i, f, o and g of gates (N, 4 H)."""
    h = z.shape[1] // 4
    return z[:, :h], z[:, h : 2 * h], z[:, 2 * h : 3 * h], z[:, 3 * h :]


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


def _open_gates(z: Array, cont: Array) -> None:
    """Apply the gates' non-linearities in place; f is multiplied by ``cont``."""
    h = z.shape[1] // 4
    z[:, : 3 * h] = _sigmoid(z[:, : 3 * h])
    np.tanh(z[:, 3 * h :], out=z[:, 3 * h :])
    f = z[:, h : 2 * h]
    # A forget gate of a sequence's first step is shut whatever its value.
    f[...] = np.where(cont[:, None] == 0, 0, f * cont[:, None])


def _unit_backward(
    gates: Array, c_prev: Array, c: Array, dc: Array, dh: Array
) -> tuple[Array, Array]:
    """Gradients of c_prev and of the gates before their non-linearities."""
    i, f, o, g = gates_of(gates)
    tanh_c = np.tanh(c)
    total = dc + dh * o * (1 - tanh_c * tanh_c)
    parts = (
        total * g * i * (1 - i),
        total * c_prev * f * (1 - f),
        dh * tanh_c * o * (1 - o),
        total * i * (1 - g * g),
    )
    return np.asarray(total * f), np.concatenate(parts, axis=1)


def _weight_gradient(
    dz: Array, before: Array, dw: Array | None, *, accumulate: bool
) -> None:
    """dw (+)= the sum over all steps of dz_t^T before_t."""
    if dw is None:
        return
    product = dz.reshape(-1, dz.shape[2]).T @ before.reshape(-1, before.shape[2])
    if accumulate:
        dw += product
    else:
        dw[...] = product


class ReferenceLstm:
    """`SequenceKernel` of an LSTM."""

    def __init__(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> None:
        shape = (steps, streams, outputs)
        #: What the recurrent weights see: cont_t h_{t-1}.
        self._before = np.zeros(shape, dtype)
        #: c before the first and after every step.
        self._cells = np.zeros((steps + 1, streams, outputs), dtype)
        self._gates = np.zeros((steps, streams, 4 * outputs), dtype)

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
        previous, cells = start[0], self._cells
        cells[0] = start[1]
        for t in range(len(z)):
            self._before[t] = cont[t][:, None] * previous
            z[t] += self._before[t] @ w.T
            if static is not None:
                z[t] += static
            self._gates[t] = z[t]
            _open_gates(self._gates[t], cont[t])
            i, f, o, g = gates_of(self._gates[t])
            cells[t + 1] = f * cells[t] + i * g
            h[t] = o * np.tanh(cells[t + 1])
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
        cells = self._cells
        dc, carried = np.zeros_like(cells[0]), np.zeros_like(cells[0])
        for t in reversed(range(len(h))):
            dc, dz[t] = _unit_backward(
                self._gates[t], cells[t], cells[t + 1], dc, dh[t] + carried
            )
            carried = cont[t][:, None] * (dz[t] @ w)
        _weight_gradient(dz, self._before, dw, accumulate=accumulate)


class ReferenceRnn:
    """`SequenceKernel` of a plain recurrence."""

    def __init__(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> None:
        self._before = np.zeros((steps, streams, outputs), dtype)

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
        previous = start[0]
        for t in range(len(z)):
            self._before[t] = cont[t][:, None] * previous
            total = z[t] + self._before[t] @ w.T
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
        carried = np.zeros_like(h[0])
        for t in reversed(range(len(h))):
            dz[t] = (dh[t] + carried) * (1 - h[t] * h[t])
            carried = cont[t][:, None] * (dz[t] @ w)
        _weight_gradient(dz, self._before, dw, accumulate=accumulate)


class ReferenceRecurrent:
    """`RecurrentOps` in NumPy."""

    def lstm(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """Caffe's LSTM; gates in the order i, f, o, g."""
        return ReferenceLstm(steps, streams, outputs, dtype)

    def rnn(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """h_t = tanh(z_t + static + w (cont_t h_{t-1}))."""
        return ReferenceRnn(steps, streams, outputs, dtype)

    def lstm_unit(
        self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array
    ) -> None:
        """One step: c = f c_prev + i g and h = o tanh(c)."""
        gates = x.copy()
        _open_gates(gates, cont)
        i, f, o, g = gates_of(gates)
        c[...] = f * c_prev + i * g
        np.multiply(o, np.tanh(c), out=h)

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
        gates = x.copy()
        _open_gates(gates, cont)
        of_cell, of_gates = _unit_backward(gates, c_prev, c, dc, dh)
        if dc_prev is not None:
            dc_prev[...] = of_cell
        if dx is not None:
            dx[...] = of_gates
