"""Clip: values held inside an interval."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Clip"]


@register("Clip")
class Clip(NeuronLayer):
    """y = x, but at least ``min`` and at most ``max``.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact out of place; in place Caffe passes gradients of clipped
    values too, here they are 0.
    """

    backward_reads_top = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Clip; in place keeps a copy of the input."""
        self.saved.save(bottom[0], top[0])
        p = self.param.clip_param
        self.ops.clip(bottom[0].data, top[0].data, p.min, p.max)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy where min <= x <= max, else 0."""
        if propagate_down[0]:
            p, x = self.param.clip_param, self.saved.data(bottom[0])
            dy, dx = top[0].diff, bottom[0].diff
            self.ops.clip_backward(x, dy, dx, p.min, p.max)

    @classmethod
    def examples(cls) -> list[Example]:
        """An interval that clips on both sides."""
        return [Example("clip_param { min: -1 max: 0.5 }", in_place=True)]
