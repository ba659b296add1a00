"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.layout import PlainView, like
from poseidon_caffe.layers.losses import LossResult
from poseidon_caffe.layers.registry import register

__all__ = ["EuclideanLoss"]


@register("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """loss = sum of (a - b)^2 / (2 N).

    Bottoms: a and b, (N, ...) of one count a sample; both may get gradients.
    Tops: scalar loss.

    Caffe parity: exact.
    """

    backward_reads_bottom = False
    backward_reads_top = False

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._difference: Blob | None = None
        self._result = LossResult(self)
        self._view = PlainView(self.ops, context.dtype)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Both must have as many elements a sample."""
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise self.shape_error("both must have the same count", bottom)
        kept = self._difference
        if kept is None or kept.channels_last != bottom[0].channels_last:
            self._difference = kept = like(bottom[0])
        kept.reshape(bottom[0].shape)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Both bottoms get gradients."""
        return True

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Keep a - b; halve its mean square."""
        assert self._difference is not None
        a, b, difference = bottom[0].data, bottom[1].data, self._difference.data
        if a.shape != b.shape:
            b = self._view.read(b, a.shape)
        self.ops.squared_difference(a, b, difference, self._result.sums)
        self._result.write(top[0], _batch(bottom[0]), 0.5)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """+-(a - b) / N times the loss weight."""
        assert self._difference is not None
        weight = self._result.weight(top[0], _batch(bottom[0]))
        for sign, blob, down in zip((1.0, -1.0), bottom, propagate_down, strict=True):
            if down:
                self.ops.weigh(self._difference.data, weight, sign, blob.diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Equal shapes, and one that only has the same count."""
        return [
            Example(bottoms=((4, 3, 2), (4, 3, 2))),
            Example(bottoms=((2, 3, 2, 2), (2, 3, 2, 2))),
            Example(bottoms=((4, 3, 1, 1), (4, 3))),
        ]


def _batch(blob: Blob) -> int:
    """Samples of a blob, 1 for an empty batch."""
    return max(blob.shape[0] if blob.shape else 1, 1)
