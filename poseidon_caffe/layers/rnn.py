"""RNN: a plain recurrent network over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.recurrent import (
    Recurrent,
    SequenceStates,
    sequence_examples,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["RNN"]


@register("RNN")
class RNN(Recurrent):
    """A plain recurrent network, run over T steps of N independent streams.

    h_t = tanh(W_xh x_t + b_h [+ W_xh_static s] + W_hh (cont_t h_{t-1})) and
    o_t = tanh(W_ho h_t + b_o).  A stream's cont is 0 at the first step of a sequence
    and 1 where one goes on.

    Bottoms: x (T, N, ...); cont (T, N); optionally static s (N, ...), the same at
    every step; with ``expose_hidden`` h before the first step, (1, N, num_output).
    Tops: o of all steps (T, N, num_output); with ``expose_hidden`` the last h,
    (1, N, num_output).
    Params: W_xh (num_output, D), b_h (num_output,), with a static bottom W_xh_static
    (num_output, S), W_hh and W_ho (num_output, num_output), b_o (num_output,); the
    matrices by ``weight_filler``, the biases by ``bias_filler`` (zeros by default).

    Without ``expose_hidden`` every forward goes on from the last h of the one before,
    which begins as zeros; a snapshot keeps it.  N may change between forwards, T may
    not.

    Caffe parity: exact, gradients being cut off as there: none comes from the last
    h's top, none goes to cont or to the bottom of h (zeros are written).  One kernel
    runs all steps, so ``debug_info`` shows fewer lines than Caffe's unrolled net.
    Deliberate difference: snapshots keep the carried h.
    """

    num_states = 1
    gates = 1
    max_bottom = 4
    max_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        #: Gradient of W_ho h + b_o.
        self._dy = self._blob()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the output's weights too."""
        super().setup(bottom, top)
        settings = self.param.recurrent_param
        self.add_param((self.outputs, self.outputs), settings.weight_filler)
        self.add_param((self.outputs,), settings.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As all recurrent layers."""
        super().reshape(bottom, top)
        self._dy.reshape((self.steps * self.streams, self.outputs))

    def make_kernel(self) -> SequenceKernel:
        """A plain recurrence of the present shape."""
        return self.ops.rnn(self.steps, self.streams, self.outputs, self.context.dtype)

    def run_sequence(
        self, z: Array, static: Array | None, states: SequenceStates, top: Blob
    ) -> None:
        """h of all steps in place of z, then o in one product."""
        at = self.recurrent_index
        self.ready_kernel.forward(
            z, static, self.blobs[at].data, states.cont, states.start, z, states.last
        )
        rows = (self.steps * self.streams, self.outputs)
        y = top.data.reshape(rows)
        weights, bias = self.blobs[at + 1].data, self.blobs[at + 2].data
        self.ops.inner_product(z.reshape(rows), weights, bias, y)
        self.ops.tanh(y, y)

    def run_sequence_back(self, top: Blob, cont: Array, z: Array, dz: Array) -> None:
        """Gradients of h before its tanh, of W_hh, W_ho and b_o."""
        at = self.recurrent_index
        rows, dy = (self.steps * self.streams, self.outputs), self._dy.data
        self.ops.tanh_backward(top.data.reshape(rows), top.diff.reshape(rows), dy)
        part = slice(at + 1, at + 3)
        (dw, db), accumulate = param_gradients(
            self.blobs[part], self.param_propagate_down[part]
        )
        if dw is not None:
            self.ops.inner_product_backward_weights(
                z.reshape(rows), dy, dw, db, accumulate=accumulate
            )
        elif db is not None:
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)
        weights = self.blobs[at + 1].data
        self.ops.inner_product_backward_data(dy, weights, dz.reshape(rows))
        dw, accumulate = self.recurrent_gradient()
        self.ready_kernel.backward(
            z, self.blobs[at].data, cont, dz, dz, dw, accumulate=accumulate
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain, with static input, with more axes, with an exposed state."""
        return sequence_examples(num_states=1)
