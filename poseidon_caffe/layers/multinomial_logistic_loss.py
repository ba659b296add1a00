"""MultinomialLogisticLoss: -log of the label's probability."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.losses import LOG_FLOOR
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
        prob, labels = self.matrix(bottom), self.labels(bottom)
        self.check.run(labels, prob.shape[1])
        self.ops.log_loss(prob, labels, LOG_FLOOR, self.result.sums)
        self.result.write(top[0], len(prob))

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
        weight = self.result.weight(top[0], len(prob))
        dx = self.gradient_view.target(bottom[0].diff, prob.shape)
        self.ops.log_loss_backward(prob, self.labels(bottom), LOG_FLOOR, weight, dx)
        self.gradient_view.write_back(dx, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Flat and with more axes."""
        return [
            Example(bottoms=((5, 4), (5,)), labels={1: 4}, positive=True),
            Example(bottoms=((3, 2, 2, 2), (3, 1, 1, 1)), labels={1: 8}, positive=True),
        ]
