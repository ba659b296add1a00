"""Losses over labels and targets, besides the softmax's own."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.protocols.loss_results import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["LabelLossOps"]


class LabelLossOps(Protocol):
    """Sums over all places, in double precision, and their gradients.

    Labels are whole numbers stored as floats (a fraction is cut off), which the
    caller has checked to be classes or ``ignore_label``.
    """

    def log_loss(self, prob: Array, label: Array, floor: float, sums: Sums) -> None:
        """sums = sum of -log(max(prob[i, label[i]], floor)), N.

        ``prob`` is (N, D), ``label`` has N elements.
        """

    def log_loss_backward(
        self, prob: Array, label: Array, floor: float, weight: Weight, dx: Array
    ) -> None:
        """dx = -weight / max(prob, floor) at the labels, 0 elsewhere."""

    def hinge_loss(self, x: Array, label: Array, sums: Sums, *, squared: bool) -> None:
        """sums = sum of max(0, 1 + s x) or its squares, N; s -1 at the labels, else 1.

        ``x`` is (N, D), ``label`` has N elements.
        """

    def hinge_loss_backward(
        self, x: Array, label: Array, weight: Weight, dx: Array, *, squared: bool
    ) -> None:
        """dx = weight * s where 1 + s x > 0; squared: 2 weight s max(0, 1 + s x)."""

    def infogain_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, floor: float, sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -gain[label, c] log(max(prob[c], floor)), labels counted.

        Args:
            prob: probabilities, classes along ``axis``.
            label: as many as there are places besides the classes.
            axis: of the classes.
            ignore_label: labels that do not count, or None.
            gain: (C, C), a row per label.
            floor: smallest probability.
            sums: is overwritten.
        """

    def infogain_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight (prob * sum of gain[label] - gain[label]), 0 where ignored."""

    def sigmoid_loss(
        self, x: Array, target: Array, ignore_label: int | None, sums: Sums
    ) -> None:
        """sums = cross entropy of sigmoid(x) and ``target``, targets counted."""

    def sigmoid_loss_backward(
        self, x: Array, target: Array, ignore_label: int | None, weight: Weight,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (sigmoid(x) - target), 0 where ignored."""
