"""MultinomialLogisticLoss: -log of the label's probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.losses import (
    LOG_FLOOR,
    check_labels,
    one_label_each,
    set_scalar,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["MultinomialLogisticLoss"]


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """loss = sum of -log p[label] / N, p at least 1e-20.

    Bottoms: probabilities p (N, ...), all elements of a sample being its D classes;
    labels, one integer 0..D-1 a sample.
    Tops: scalar loss.

    SoftmaxWithLoss makes the probabilities too, which is safer: here the gradient is
    -1 / (N p).

    Caffe parity: exact, but labels out of range are an error (Caffe reads whatever
    memory they point at).
    """

    backward_reads_top = False

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._x_view = PlainView(self.ops, context.dtype)
        self._dx_view = PlainView(self.ops, context.dtype)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One label a sample."""
        super().reshape(bottom, top)
        one_label_each(self, bottom)

    def _prob(self, bottom: Sequence[Blob]) -> Array:
        shape = bottom[0].shape
        return self._x_view.read(bottom[0].data, (shape[0], math.prod(shape[1:])))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Mean over the samples."""
        prob, labels = self._prob(bottom), bottom[1].data
        check_labels(self, labels, prob.shape[1], None)
        total = self.ops.log_loss(prob, labels, LOG_FLOOR)
        set_scalar(top[0], total / max(len(prob), 1))

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """-1 / p at the labels."""
        self.refuse_label_gradient(propagate_down)
        if not propagate_down[0]:
            return
        prob = self._prob(bottom)
        weight = float(top[0].diff) / max(len(prob), 1)
        dx = self._dx_view.target(bottom[0].diff, prob.shape)
        self.ops.log_loss_backward(prob, bottom[1].data, LOG_FLOOR, weight, dx)
        self._dx_view.write_back(dx, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Flat and with more axes."""
        return [
            Example(bottoms=((5, 4), (5,)), labels={1: 4}, positive=True),
            Example(bottoms=((3, 2, 2, 2), (3, 1, 1, 1)), labels={1: 8}, positive=True),
        ]
