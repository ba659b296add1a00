"""SoftmaxWithLoss: multinomial logistic loss of the softmax of a bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.layout import Alias, PlainView, like
from poseidon_caffe.layers.losses import (
    VALID,
    LabelCheck,
    LossResult,
    Predictions,
    ignored_label,
    normalization_mode,
    normalizer,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["SoftmaxWithLoss"]


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(LossLayer):
    """loss = sum of -log softmax(x)[label] / normalizer.

    Bottoms: scores (outer..., C, inner...), classes along ``softmax_param.axis``;
    labels, one integer per (outer, inner) place, the first axis being the scores' own.
    Tops: scalar loss; optionally the probabilities, as the first bottom.

    ``loss_param``: ``ignore_label``; ``normalization`` FULL (all places), VALID
    (places not ignored, the default), BATCH_SIZE (outer) or NONE; the old
    ``normalize`` false means BATCH_SIZE.

    Caffe parity: exact, but labels out of range are an error (Caffe reads whatever
    memory they point at).
    """

    num_top = None
    min_top = 1
    max_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._places = Predictions(1, 0, 0, 0, ())
        self._prob: Blob | None = None
        self._ignore = ignored_label(param.loss_param)
        self._mode = normalization_mode(param.loss_param, VALID)
        self._second_top = Alias(self.ops)
        self._check = LabelCheck(self, self._ignore)
        self._result = LossResult(self)
        self._label_view = PlainView(self.ops, context.dtype)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One label per place."""
        self._places = Predictions.of(self, bottom, self.param.softmax_param.axis)
        super().reshape(bottom, top)
        x = bottom[0]
        if self._prob is None or self._prob.channels_last != x.channels_last:
            self._prob = like(x)
        self._prob.reshape(x.shape)
        if len(top) > 1:
            top[1].reshape(x.shape)
            self._second_top.bind(self._prob, top[1], diff=False)

    def _labels(self, bottom: Sequence[Blob]) -> Array:
        """Labels in the shape of the scores without their class axis."""
        return self._label_view.read(bottom[1].data, self._places.label_shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Softmax, then the mean of -log at the labels."""
        assert self._prob is not None
        labels, axis = self._labels(bottom), self._places.axis
        self._check.run(labels, self._places.classes)
        prob = self._prob.data
        self.ops.softmax(bottom[0].data, axis, prob)
        self.ops.softmax_loss(prob, labels, axis, self._ignore, self._result.sums)
        self._result.write(top[0], self._divisor())
        if len(top) > 1:
            self._second_top.forward(self._prob, top[1])

    def _divisor(self) -> float | None:
        return normalizer(self._mode, self._places.outer, self._places.inner)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = (prob - onehot) * loss weight / normalizer."""
        self.refuse_label_gradient(propagate_down)
        if not propagate_down[0]:
            return
        assert self._prob is not None
        self.ops.softmax_loss_backward(
            self._prob.data,
            self._labels(bottom),
            self._places.axis,
            self._ignore,
            self._result.weight(top[0], self._divisor()),
            bottom[0].diff,
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Flat and spatial labels, every normalisation, a second top."""

        def loss(text: str = "") -> Example:
            shapes = ((2, 5, 4, 3), (2, 4, 3))
            return Example(text, bottoms=shapes, labels={1: 5})

        return [
            Example(bottoms=((6, 10), (6,)), labels={1: 10}),
            Example(bottoms=((6, 10, 1, 1), (6, 1, 1, 1)), labels={1: 10}),
            loss(),
            loss("loss_param { ignore_label: 2 }"),
            loss("loss_param { ignore_label: 2 normalization: FULL }"),
            loss("loss_param { ignore_label: 2 normalization: BATCH_SIZE }"),
            loss("loss_param { normalization: NONE }"),
            loss("loss_param { normalize: false }"),
            Example(
                "softmax_param { axis: -1 }",
                bottoms=((2, 3, 4), (2, 3)),
                labels={1: 4},
            ),
            Example(
                "loss_weight: 1 loss_weight: 0",
                bottoms=((4, 5), (4,)),
                num_top=2,
                labels={1: 5},
                check_gradient=False,
            ),
        ]
