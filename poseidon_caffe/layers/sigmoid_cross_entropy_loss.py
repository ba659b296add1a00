"""SigmoidCrossEntropyLoss: independent yes-or-no targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.losses import (
    BATCH_SIZE,
    LossResult,
    ignored_label,
    normalization_mode,
    normalizer,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["SigmoidCrossEntropyLoss"]


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """loss = sum of -(t log p + (1 - t) log(1 - p)) / normalizer, p = sigmoid(x).

    Bottoms: scores x and targets t in [0, 1], of one count.
    Tops: scalar loss.

    ``loss_param``: targets equal to ``ignore_label`` do not count; ``normalization``
    is BATCH_SIZE unless given (elsewhere VALID), or what the old ``normalize`` says.

    Caffe parity: exact.
    """

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._ignore = ignored_label(param.loss_param)
        self._mode = normalization_mode(param.loss_param, BATCH_SIZE)
        self._result = LossResult(self)
        self._target_view = PlainView(self.ops, context.dtype)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One target a score."""
        super().reshape(bottom, top)
        if not bottom[0].shape or bottom[0].count != bottom[1].count:
            raise self.shape_error("needs one target for each score", bottom)

    def _divisor(self, x: Blob) -> float | None:
        return normalizer(self._mode, x.shape[0], math.prod(x.shape[1:]))

    def _targets(self, bottom: Sequence[Blob]) -> Array:
        """Targets in the scores' shape."""
        shape = bottom[0].shape
        if bottom[1].shape == shape:
            return bottom[1].data
        return self._target_view.read(bottom[1].data, shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Cross entropy from scores, without overflow."""
        self.ops.sigmoid_loss(
            bottom[0].data, self._targets(bottom), self._ignore, self._result.sums
        )
        self._result.write(top[0], self._divisor(bottom[0]))

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = (p - t) * loss weight / normalizer."""
        self.refuse_label_gradient(propagate_down)
        if not propagate_down[0]:
            return
        weight = self._result.weight(top[0], self._divisor(bottom[0]))
        self.ops.sigmoid_loss_backward(
            bottom[0].data, self._targets(bottom), self._ignore, weight, bottom[0].diff
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Every normalisation, ignored targets, four axes."""

        def loss(text: str) -> Example:
            param = f"loss_param {{ {text} }}"
            return Example(param, bottoms=((4, 6), (4, 6)), labels={1: 2})

        return [
            loss(""),
            loss("ignore_label: 1 normalization: VALID"),
            loss("normalization: FULL"),
            loss("normalization: NONE"),
            loss("normalize: true"),
            Example(bottoms=((2, 3, 2, 2), (2, 3, 2, 2)), labels={1: 2}),
        ]
