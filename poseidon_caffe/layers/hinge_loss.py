"""HingeLoss: one against all, with a margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.sample_loss import SampleLoss

__all__ = ["HingeLoss"]

_L2 = 2


@register("HingeLoss")
class HingeLoss(SampleLoss):
    """loss = sum of max(0, 1 - s x)^p / N, s = 1 for the label's score, else -1.

    Bottoms: scores (N, ...), all elements of a sample being its D classes; labels,
    one integer 0..D-1 a sample.
    Tops: scalar loss.

    ``hinge_loss_param { norm }``: L1 (p = 1, the default) or L2 (p = 2).

    Caffe parity: exact, but labels out of range are an error (Caffe changes whatever
    memory they point at).
    """

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._squared = int(param.hinge_loss_param.norm) == _L2

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Mean over the samples."""
        x, labels = self.matrix(bottom), self.labels(bottom)
        self.check.run(labels, x.shape[1])
        self.ops.hinge_loss(x, labels, self.result.sums, squared=self._squared)
        self.result.write(top[0], len(x))

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Towards the margin, for scores inside it."""
        self.refuse_label_gradient(propagate_down)
        if not propagate_down[0]:
            return
        x = self.matrix(bottom)
        weight = self.result.weight(top[0], len(x))
        dx = self.gradient_view.target(bottom[0].diff, x.shape)
        labels = self.labels(bottom)
        self.ops.hinge_loss_backward(x, labels, weight, dx, squared=self._squared)
        self.gradient_view.write_back(dx, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Both norms, flat and with more axes."""
        norm = "hinge_loss_param {{ norm: {} }}".format
        flat, deep = ((5, 4), (5,)), ((3, 2, 2, 2), (3, 1, 1, 1))
        return [
            Example(bottoms=flat, labels={1: 4}),
            Example(norm("L1"), bottoms=deep, labels={1: 8}),
            Example(norm("L2"), bottoms=flat, labels={1: 4}),
            Example(norm("L2"), bottoms=deep, labels={1: 8}),
        ]
