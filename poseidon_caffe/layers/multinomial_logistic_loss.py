"""MultinomialLogisticLoss: -log of the label's probability."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.losses import (
    LOG_FLOOR,
    check_labels,
    set_scalar,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.sample_loss import SampleLoss

__all__ = ["MultinomialLogisticLoss"]


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(SampleLoss):
    """loss = sum of -log p[label] / N, p at least 1e-20.

    Bottoms: probabilities p (N, ...), all elements of a sample being its D classes;
    labels, one integer 0..D-1 a sample.
    Tops: scalar loss.

    SoftmaxWithLoss makes the probabilities too, which is safer: here the gradient is
    -1 / (N p).

    Caffe parity: exact, but labels out of range are an error (Caffe reads whatever
    memory they point at).
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Mean over the samples."""
        prob, labels = self.matrix(bottom), bottom[1].data
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
        prob = self.matrix(bottom)
        weight = float(top[0].diff) / max(len(prob), 1)
        dx = self.gradient_view.target(bottom[0].diff, prob.shape)
        self.ops.log_loss_backward(prob, bottom[1].data, LOG_FLOOR, weight, dx)
        self.gradient_view.write_back(dx, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Flat and with more axes."""
        return [
            Example(bottoms=((5, 4), (5,)), labels={1: 4}, positive=True),
            Example(bottoms=((3, 2, 2, 2), (3, 1, 1, 1)), labels={1: 8}, positive=True),
        ]
