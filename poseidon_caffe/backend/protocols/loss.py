"""Softmax and the losses."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.protocols.loss_results import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["LossOps"]


class LossOps(Protocol):
    """Softmax and its loss."""

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -log prob[label] (at least FLT_MIN), labels counted."""

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored."""
