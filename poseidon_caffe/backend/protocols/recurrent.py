"""Sequences: recurrences run over all time steps by one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["RecurrentOps", "SequenceKernel"]


class SequenceKernel(Protocol):
    """The part of a recurrent layer that goes from step to step.

    T steps, N streams, H hidden values and G inputs of a step (4 H of an LSTM, H of
    a plain recurrence); all arrays C-contiguous.  The kernel keeps what backward
    needs besides its arguments; backward may run more than once.
    """

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
        """Hidden values of all steps.

        Args:
            z: (T, N, G), what the inputs add to each step; used up.  May be ``h``
                where G is H.
            static: (N, G), added at every step.
            w: (G, H), weights of the hidden values one step before.
            cont: (T, N), what the state from before a step is multiplied by.
            start: states before the first step, each (N, H): h, and an LSTM's c.
            h: (T, N, H), written.
            last: states after the last step, written; may be ``start``.
        """

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
        """Gradients, after `forward` with the same h, w and cont.

        No gradient comes from beyond the last step nor goes beyond the first.

        Args:
            h: what forward wrote.
            w: (G, H).
            cont: (T, N).
            dh: (T, N, H), gradients of h; kept unless it is ``dz`` (where G is H).
            dz: (T, N, G), gradients of z; written.  May be forward's z again, unless
                that was ``h``.
            dw: (G, H), gradients of w, written or (``accumulate``) added to.
            accumulate: add to ``dw``.
        """


class RecurrentOps(Protocol):
    """Recurrences over whole sequences, and one step of an LSTM."""

    def lstm(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """Caffe's LSTM; gates in the order i, f, o, g."""

    def rnn(
        self, steps: int, streams: int, outputs: int, dtype: type | np.dtype
    ) -> SequenceKernel:
        """h_t = tanh(z_t + static + w (cont_t h_{t-1}))."""

    def lstm_unit(
        self, c_prev: Array, x: Array, cont: Array, c: Array, h: Array
    ) -> None:
        """One step: c = f c_prev + i g and h = o tanh(c), with f cont-gated.

        ``x`` (N, 4 H) holds the gates before their non-linearities, ``cont`` (N,)
        multiplies f; the others are (N, H).
        """

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
        """dc_prev and dx, each when given; as Caffe, f (1 - f) has f = cont sigmoid."""
