"""LSTMUnit: one step of an LSTM, after its products."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register

__all__ = ["LSTMUnit"]

_CONT = 2
_STATE_AXES = 3


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM: new cell and hidden values from the gates' inputs.

    c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g) and h = sigmoid(o) tanh(c), where
    x = (i, f, o, g) along its last axis.  Has no settings and no parameters.

    Bottoms: c_prev (1, N, H); x (1, N, 4 H); cont (1, N).
    Tops: c and h, each (1, N, H).

    Caffe parity: exact, also where cont is neither 0 nor 1: the gradient of f then
    has Caffe's factor f (1 - f) with f = cont sigmoid.  cont gets no gradient.
    """

    num_bottom = 3
    num_top = 2

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """All bottoms are one step of the same streams."""
        for index, blob in enumerate(bottom):
            axes = 2 if index == _CONT else _STATE_AXES
            if len(blob.shape) != axes or blob.shape[0] != 1:
                problem = f"bottom {index} must have {axes} axes, the first of length 1"
                raise self.shape_error(problem, bottom)
        _, streams, hidden = bottom[0].shape
        if bottom[1].shape != (1, streams, 4 * hidden):
            problem = f"the second bottom must be (1, {streams}, {4 * hidden})"
            raise self.shape_error(problem, bottom)
        if bottom[_CONT].shape != (1, streams):
            raise self.shape_error(f"the third bottom must be (1, {streams})", bottom)
        for blob in top:
            blob.reshape(bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One step."""
        c_prev, x, cont = (blob.data[0] for blob in bottom)
        self.ops.lstm_unit(c_prev, x, cont, top[0].data[0], top[1].data[0])

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of c_prev and x."""
        if propagate_down[_CONT]:
            raise LayerError(
                self.describe("cannot backpropagate to sequence indicators")
            )
        of_cell, of_gates = (
            blob.diff[0] if down else None
            for blob, down in zip(bottom[:2], propagate_down[:2], strict=True)
        )
        c_prev, x, cont = (blob.data[0] for blob in bottom)
        c, dc, dh = top[0].data[0], top[0].diff[0], top[1].diff[0]
        self.ops.lstm_unit_backward(c_prev, x, cont, c, dc, dh, of_cell, of_gates)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """cont gets no gradient."""
        return bottom_index != _CONT

    @classmethod
    def examples(cls) -> list[Example]:
        """Some streams begin, others go on."""
        return [
            Example(
                bottoms=((1, 5, 3), (1, 5, 12), (1, 5)),
                labels={_CONT: 2},
                batch_axes=(1, 1, 1),
            )
        ]
