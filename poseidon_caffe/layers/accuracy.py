"""Accuracy: how often the label is among the best scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.losses import (
    LabelCheck,
    LossResult,
    Predictions,
    ignored_label,
)
from poseidon_caffe.layers.registry import register

__all__ = ["Accuracy"]


@register("Accuracy")
class Accuracy(Layer):
    """Share of labels whose score is among the ``top_k`` largest.

    Bottoms: scores (outer..., C, inner...), classes along ``axis``; labels, one
    integer per (outer, inner) place.
    Tops: scalar; optionally the accuracy of each class (C,), 0 for a class that no
    counted label names.

    A place counts as right when fewer than ``top_k`` other classes score at least
    as much as its label, so ties count against it.  Labels equal to
    ``ignore_label`` do not count.  Without any counted label the score is 0.

    Caffe parity: exact; no gradient.
    """

    num_bottom = 2
    min_top = 1
    max_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = param.accuracy_param
        self._top_k = int(p.top_k)
        self._ignore = ignored_label(p)
        self._places = Predictions(1, 0, 0, 0, ())
        self._check = LabelCheck(self, self._ignore)
        self._result = LossResult(self)
        self._label_view = PlainView(self.ops, context.dtype)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One label per place; no more than C best scores."""
        self._places = Predictions.of(self, bottom, self.param.accuracy_param.axis)
        classes = self._places.classes
        if self._top_k > classes:
            problem = f"top_k {self._top_k} exceeds the {classes} classes"
            raise self.shape_error(problem, bottom)
        top[0].reshape(())
        if len(top) > 1:
            top[1].reshape((classes,))

    def allow_force_backward(self, bottom_index: int) -> bool:
        """A score has no gradient."""
        return False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Count."""
        places = self._places
        labels = self._label_view.read(bottom[1].data, places.label_shape)
        self._check.run(labels, places.classes)
        self.ops.count_hits(
            bottom[0].data, labels, places.axis, self._top_k, self._ignore,
            self._result.sums, top[1].data if len(top) > 1 else None,
        )  # fmt: skip
        self._result.write(top[0], None)

    @classmethod
    def examples(cls) -> list[Example]:
        """Best of one and of three, ignored labels, per class."""

        def accuracy(text: str, num_top: int = 1) -> Example:
            return Example(
                f"accuracy_param {{ {text} }}",
                bottoms=((2, 5, 4, 3), (2, 4, 3)),
                num_top=num_top,
                labels={1: 5},
                check_gradient=False,
            )

        return [
            Example(bottoms=((40, 5), (40,)), labels={1: 5}, check_gradient=False),
            accuracy("top_k: 3"),
            accuracy("ignore_label: 2"),
            accuracy("axis: 1", num_top=2),
        ]
