"""ContrastiveLoss: pulls pairs together or pushes them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.losses import LossResult
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["ContrastiveLoss"]


@register("ContrastiveLoss")
class ContrastiveLoss(LossLayer):
    """loss = sum of (s d^2 + (1 - s) max(margin - d, 0)^2) / (2 N), d = |a - b|.

    With ``legacy_version`` the second term is max(margin - d^2, 0).

    Bottoms: a and b (N, C[, 1, 1]); s (N[, 1...]), 1 for similar pairs, else 0.
    Tops: scalar loss.

    Caffe parity: exact.
    """

    num_bottom = 3

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = param.contrastive_loss_param
        self._margin, self._legacy = float(p.margin), bool(p.legacy_version)
        #: Squared distances of the pairs, and what multiplies their differences.
        self._squares = Blob(dtype=context.dtype, memory=self.ops.memory)
        self._factors = Blob(dtype=context.dtype, memory=self.ops.memory)
        self._result = LossResult(self)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pairs of vectors, one label each."""
        super().reshape(bottom, top)
        a, b, s = (blob.shape for blob in bottom)
        places = math.prod(a[2:]) * math.prod(b[2:])
        if not a or _pair(a) != _pair(b) or places != 1:
            raise self.shape_error("needs two (N, C) or (N, C, 1, 1)", bottom)
        if math.prod(s) != a[0]:
            raise self.shape_error("needs one label for each pair", bottom)
        for blob in (self._squares, self._factors):
            blob.reshape(a[:1])

    def allow_force_backward(self, bottom_index: int) -> bool:
        """All but the labels."""
        return bottom_index < 2

    def _pairs(self, bottom: Sequence[Blob]) -> tuple[Array, Array, Array]:
        """(a (N, C), b (N, C), labels (N,))."""
        rows = _pair(bottom[0].shape)
        a, b = (blob.data.reshape(rows) for blob in bottom[:2])
        return a, b, bottom[2].data.reshape(rows[:1])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Mean over the pairs."""
        a, b, labels = self._pairs(bottom)
        squares, sums = self._squares.data, self._result.sums
        self.ops.row_distances(a, b, squares)
        self.ops.contrastive_loss(
            squares, labels, self._margin, sums, legacy=self._legacy
        )
        self._result.write(top[0], len(a), 0.5)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Along a - b: towards each other, or away inside the margin."""
        self.refuse_label_gradient(propagate_down)
        a, b, labels = self._pairs(bottom)
        factors = self._factors.data
        self.ops.contrastive_factors(
            self._squares.data, labels, self._margin,
            self._result.weight(top[0], len(a)), factors, legacy=self._legacy,
        )  # fmt: skip
        da, db = (
            blob.diff.reshape(a.shape) if down else None
            for blob, down in zip(bottom[:2], propagate_down, strict=False)
        )
        self.ops.pull_rows(a, b, factors, da, db)

    def refuse_label_gradient(self, propagate_down: Sequence[bool]) -> None:
        """Labels are the third bottom here."""
        super().refuse_label_gradient(propagate_down[1:])

    @classmethod
    def examples(cls) -> list[Example]:
        """Both versions, wide and narrow margins."""

        def loss(text: str, *more: int) -> Example:
            param = f"contrastive_loss_param {{ {text} }}"
            pair = (6, 4, *more)
            return Example(param, bottoms=(pair, pair, (6,)), labels={2: 2})

        return [
            loss("margin: 5"),
            loss("", 1, 1),
            loss("margin: 9 legacy_version: true"),
        ]


def _pair(shape: Shape) -> tuple[int, int]:
    """(N, C) of one side's shape; C is 1 if it has one axis."""
    return shape[0], shape[1] if len(shape) > 1 else 1
