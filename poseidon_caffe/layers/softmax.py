"""Softmax: scores to probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Storage
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Softmax"]


@register("Softmax")
class Softmax(NeuronLayer):
    """y = exp(x) / sum of exp(x) along ``axis``.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact.
    """

    storage = Storage.FLOAT
    backward_reads_bottom = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Normalise exponentials, the largest score subtracted first."""
        axis = bottom[0].canonical_axis(self.param.softmax_param.axis)
        self.ops.softmax(bottom[0].data, axis, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = (dy - sum of dy y) y."""
        if propagate_down[0]:
            axis = bottom[0].canonical_axis(self.param.softmax_param.axis)
            y, dy, dx = top[0].data, top[0].diff, bottom[0].diff
            self.ops.softmax_backward(y, dy, axis, dx)

    @classmethod
    def examples(cls) -> list[Example]:
        """Flat scores, spatial ones, another axis."""
        return [
            Example(bottoms=((6, 10),), in_place=True),
            Example(in_place=True),
            Example("softmax_param { axis: 2 }"),
        ]
