"""Sigmoid and TanH: the two squashing functions."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Sigmoid", "TanH"]


@register("Sigmoid")
class Sigmoid(NeuronLayer):
    """y = 1 / (1 + exp(-x)).

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact.
    """

    backward_reads_bottom = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (0, 1)."""
        self.ops.sigmoid(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy y (1 - y)."""
        if propagate_down[0]:
            self.ops.sigmoid_backward(top[0].data, top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Four axes and two."""
        return [Example(in_place=True), Example(bottoms=((3, 4),))]


@register("TanH")
class TanH(NeuronLayer):
    """y = tanh(x).

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact.
    """

    backward_reads_bottom = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (-1, 1)."""
        self.ops.tanh(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy (1 - y^2)."""
        if propagate_down[0]:
            self.ops.tanh_backward(top[0].data, top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Four axes and two."""
        return [Example(in_place=True), Example(bottoms=((3, 4),))]
