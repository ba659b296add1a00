"""AbsVal: absolute values."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["AbsVal"]


@register("AbsVal")
class AbsVal(NeuronLayer):
    """y = |x|.

    Bottoms, tops: one of any shape; not in place.

    Caffe parity: exact; the gradient at 0 is 0.
    """

    backward_reads_top = False

    allows_in_place = False

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The sign must survive for backward."""
        if bottom[0] is top[0]:
            raise LayerError(self.describe("does not work in place"))
        super().reshape(bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Drop the sign."""
        self.ops.absolute(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy sign(x)."""
        if propagate_down[0]:
            x = bottom[0].data
            self.ops.absolute_backward(x, top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Away from 0."""
        return [Example(kink=0.05)]
