"""LSTM: long short-term memory over sequences."""

from __future__ import annotations

from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.recurrent import (
    Recurrent,
    SequenceStates,
    sequence_examples,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["LSTM"]


@register("LSTM")
class LSTM(Recurrent):
    """Long short-term memory, run over T steps of N independent streams.

    With gates (i, f, o, g)_t = W_xc x_t + b_c [+ W_xc_static s] + W_hc (cont_t
    h_{t-1}): c_t = cont_t sigmoid(f) c_{t-1} + sigmoid(i) tanh(g) and
    h_t = sigmoid(o) tanh(c_t).  A stream's cont is 0 at the first step of a
    sequence and 1 where one goes on.

    Bottoms: x (T, N, ...); cont (T, N); optionally static s (N, ...), the same at
    every step; with ``expose_hidden`` the states before the first step, h and c,
    each (1, N, num_output).
    Tops: h of all steps (T, N, num_output); with ``expose_hidden`` the last h and c,
    each (1, N, num_output).
    Params: W_xc (4 num_output, D), b_c (4 num_output,), with a static bottom
    W_xc_static (4 num_output, S), W_hc (4 num_output, num_output); the matrices by
    ``weight_filler``, the bias by ``bias_filler`` (both: zeros by default).

    Without ``expose_hidden`` every forward goes on from the last states of the one
    before, which begin as zeros; a snapshot keeps them.  N may change between
    forwards, T may not.

    Caffe parity: exact, gradients being cut off as there: none comes from the last
    states' tops, none goes to cont or to the states' bottoms (zeros are written).
    One kernel runs all steps, so ``debug_info`` shows fewer lines than Caffe's
    unrolled net.  Deliberate difference: snapshots keep the carried states.
    """

    num_states = 2
    gates = 4
    max_bottom = 5
    max_top = 3

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        # The gates' inputs are used up by the time their gradients come.
        self.dz = self.z

    def make_kernel(self) -> SequenceKernel:
        """An LSTM of the present shape."""
        return self.ops.lstm(self.steps, self.streams, self.outputs, self.context.dtype)

    def run_sequence(
        self, z: Array, static: Array | None, states: SequenceStates, top: Blob
    ) -> None:
        """h of all steps."""
        weights = self.blobs[self.recurrent_index].data
        self.ready_kernel.forward(
            z, static, weights, states.cont, states.start, top.data, states.last
        )

    def run_sequence_back(self, top: Blob, cont: Array, z: Array, dz: Array) -> None:
        """Gradients of the gates and of W_hc."""
        weights = self.blobs[self.recurrent_index].data
        dw, accumulate = self.recurrent_gradient()
        self.ready_kernel.backward(
            top.data, weights, cont, top.diff, dz, dw, accumulate=accumulate
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain, with static input, with more axes, with exposed states."""
        return sequence_examples(num_states=2)
