"""BNLL: binomial normal log likelihood, a smooth ReLU."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["BNLL"]


@register("BNLL")
class BNLL(NeuronLayer):
    """y = log(1 + exp(x)).

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact out of place; in place Caffe's gradient is wrong, here it is
    right.
    """

    backward_reads_top = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Without overflow; in place keeps a copy of the input."""
        self.saved.save(bottom[0], top[0])
        self.ops.bnll(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy sigmoid(x)."""
        if propagate_down[0]:
            x = self.saved.data(bottom[0])
            self.ops.bnll_backward(x, top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain."""
        return [Example(in_place=True)]
