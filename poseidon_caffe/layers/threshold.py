"""Threshold: which elements are large."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Threshold"]


@register("Threshold")
class Threshold(NeuronLayer):
    """y = 1 where x > threshold, else 0.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact; no gradient.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compare."""
        limit = self.param.threshold_param.threshold
        self.ops.threshold(bottom[0].data, top[0].data, limit)

    @classmethod
    def examples(cls) -> list[Example]:
        """Two thresholds."""
        text = "threshold_param { threshold: 0.3 }"
        return [Example(check_gradient=False), Example(text, check_gradient=False)]
