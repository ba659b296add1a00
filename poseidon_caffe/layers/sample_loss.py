"""Base of the losses with one label a sample: scores as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import LayerContext, LossLayer
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.losses import LabelCheck, LossResult, one_label_each
from poseidon_caffe.types import Array

__all__ = ["SampleLoss"]


class SampleLoss(LossLayer):
    """Bottoms: (N, ...), all elements of a sample being its classes; N labels.

    Attributes:
        gradient_view: shows the first bottom's diff as a matrix to write.
        check: of the labels.
        result: the sum, and the weight of the gradient.
    """

    backward_reads_top = False

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._x_view = PlainView(self.ops, context.dtype)
        self.gradient_view = PlainView(self.ops, context.dtype)
        self._label_view = PlainView(self.ops, context.dtype)
        self.check = LabelCheck(self)
        self.result = LossResult(self)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One label a sample."""
        super().reshape(bottom, top)
        one_label_each(self, bottom)

    def matrix(self, bottom: Sequence[Blob]) -> Array:
        """The first bottom as (samples, classes)."""
        shape = bottom[0].shape
        return self._x_view.read(bottom[0].data, (shape[0], math.prod(shape[1:])))

    def labels(self, bottom: Sequence[Blob]) -> Array:
        """The second bottom as (samples,)."""
        return self._label_view.read(bottom[1].data, (bottom[1].count,))
