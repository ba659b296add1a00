"""Losses over labels and targets in NumPy."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.backend.reference.loss import labels_like
from poseidon_caffe.types import Array

__all__ = ["ReferenceLabelLosses", "at_labels"]


def at_labels(label: Array) -> tuple[Array, Array]:
    """Where the labels' entries of a matrix (N, D) are."""
    numbers = label.reshape(-1).astype(np.int64)
    return np.arange(numbers.size), numbers


def _counted(target: Array, ignore_label: int | None) -> Array | None:
    """Where targets count, or None for everywhere: whole parts are compared."""
    return None if ignore_label is None else np.trunc(target) != ignore_label


def _margins(x: Array, label: Array) -> Array:
    """max(0, 1 + s x), s = -1 at the labels, else 1."""
    at = at_labels(label)
    margins: Array = x + x.dtype.type(1)
    margins[at] = 1 - x[at]
    np.maximum(margins, 0, out=margins)
    return margins


class ReferenceLabelLosses:
    """`LabelLossOps` in NumPy; arrays may have any strides."""

    def log_loss(self, prob: Array, label: Array, floor: float, sums: Sums) -> None:
        """sums = sum of -log(max(prob[i, label[i]], floor)), N."""
        picked = np.maximum(prob[at_labels(label)], prob.dtype.type(floor))
        sums[...] = -float(np.log(picked.astype(np.float64)).sum()), len(prob)

    def log_loss_backward(
        self, prob: Array, label: Array, floor: float, weight: Weight, dx: Array
    ) -> None:
        """dx = -weight / max(prob, floor) at the labels, 0 elsewhere."""
        at = at_labels(label)
        dx[...] = 0
        dx[at] = -float(weight[0]) / np.maximum(prob[at], prob.dtype.type(floor))

    def hinge_loss(self, x: Array, label: Array, sums: Sums, *, squared: bool) -> None:
        """sums = sum of max(0, 1 + s x) or its squares, N."""
        margins = _margins(x, label)
        if squared:
            np.square(margins, out=margins)
        sums[...] = float(margins.sum(dtype=np.float64)), len(x)

    def hinge_loss_backward(
        self, x: Array, label: Array, weight: Weight, dx: Array, *, squared: bool
    ) -> None:
        """dx = weight * s where 1 + s x > 0; squared: 2 weight s max(0, 1 + s x)."""
        margins, at = _margins(x, label), at_labels(label)
        np.multiply(margins if squared else margins > 0, float(weight[0]), out=dx)
        if squared:
            dx *= 2
        dx[at] = -dx[at]

    def infogain_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, floor: float, sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -gain[label, c] log(max(prob[c], floor)), labels counted."""
        labels, counted = labels_like(prob, label, axis, ignore_label)
        gains = _gains(gain, labels, axis)
        if not counted.all():
            gains = gains * counted
        logs = np.log(np.maximum(prob, prob.dtype.type(floor)))
        total = -float((gains * logs).sum(dtype=np.float64))
        sums[...] = total, np.count_nonzero(counted)

    def infogain_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight (prob * sum of gain[label] - gain[label]), 0 where ignored."""
        labels, counted = labels_like(prob, label, axis, ignore_label)
        np.multiply(prob, gain.sum(axis=1)[labels], out=dx)
        dx -= _gains(gain, labels, axis)
        dx *= float(weight[0])
        if not counted.all():
            dx *= counted

    def sigmoid_loss(
        self, x: Array, target: Array, ignore_label: int | None, sums: Sums
    ) -> None:
        """sums = cross entropy of sigmoid(x) and ``target``, targets counted."""
        # The exponent is never positive, so that nothing overflows.
        each = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        counted = _counted(target, ignore_label)
        if counted is None:
            sums[...] = float(each.sum(dtype=np.float64)), x.size
            return
        total = float(each.sum(dtype=np.float64, where=counted))
        sums[...] = total, np.count_nonzero(counted)

    def sigmoid_loss_backward(
        self, x: Array, target: Array, ignore_label: int | None, weight: Weight,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (sigmoid(x) - target), 0 where ignored."""
        small = np.exp(-np.abs(x))
        sigmoid = np.where(x >= 0, 1, small) / (1 + small)
        np.multiply(sigmoid - target, float(weight[0]), out=dx)
        counted = _counted(target, ignore_label)
        if counted is not None:
            dx[~counted] = 0


def _gains(gain: Array, labels: Array, axis: int) -> Array:
    """gain[label] with the classes along ``axis``; labels have length 1 there."""
    return np.moveaxis(gain[labels.squeeze(axis)], -1, axis)
