"""Swish: x times its sigmoid."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Swish"]


@register("Swish")
class Swish(NeuronLayer):
    """y = x * sigmoid(beta * x).

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact out of place; in place Caffe's gradient is wrong, here it is
    right.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """In place keeps a copy of the input."""
        self.saved.save(bottom[0], top[0])
        beta = self.param.swish_param.beta
        self.ops.swish(bottom[0].data, top[0].data, beta)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy (beta y + s (1 - beta y)), s the sigmoid."""
        if propagate_down[0]:
            x, y = self.saved.data(bottom[0]), top[0].data
            beta = self.param.swish_param.beta
            self.ops.swish_backward(x, y, top[0].diff, bottom[0].diff, beta)

    @classmethod
    def examples(cls) -> list[Example]:
        """Two betas."""
        return [Example(in_place=True), Example("swish_param { beta: 1.7 }")]
