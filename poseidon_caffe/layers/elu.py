"""ELU: exponential linear units."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["ELU"]


@register("ELU")
class ELU(NeuronLayer):
    """y = x where x > 0, alpha (exp(x) - 1) elsewhere.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """In place keeps a copy of the input if its sign would be lost."""
        alpha = self.param.elu_param.alpha
        if alpha < 0:
            self.saved.save(bottom[0], top[0])
        self.ops.elu(bottom[0].data, top[0].data, alpha)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy where x > 0, (y + alpha) dy elsewhere."""
        if propagate_down[0]:
            y, alpha = top[0].data, self.param.elu_param.alpha
            x = y if alpha >= 0 else self.saved.data(bottom[0])
            self.ops.elu_backward(x, y, top[0].diff, bottom[0].diff, alpha)

    @classmethod
    def examples(cls) -> list[Example]:
        """Several alphas."""
        return [
            Example(in_place=True, kink=0.05),
            Example("elu_param { alpha: 0.3 }", in_place=True, kink=0.05),
            Example("elu_param { alpha: -0.3 }", in_place=True, kink=0.05),
        ]
