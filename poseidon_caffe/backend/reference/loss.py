"""Softmax and the multinomial logistic loss on it."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.types import Array

__all__ = ["ReferenceLoss", "labels_like"]

_LABEL_BOUND = 2.0**62
_FLT_MIN = float(np.finfo(np.float32).tiny)


def labels_like(
    prob: Array, label: Array, axis: int, ignore_label: int | None
) -> tuple[Array, Array]:
    """Labels as integers of ``prob``'s shape with ``axis`` of length 1.

    Returns:
        (labels, counted): int64 labels, 0 where ignored, and where they count.

    Raises:
        ShapeError: the number of labels does not fit.
        LayerError: a label that is not ignored is no class; names value, place
            and range.
    """
    shape = (*prob.shape[:axis], 1, *prob.shape[axis + 1 :])
    if label.size != prob.size // max(prob.shape[axis], 1):
        msg = (
            f"predictions of shape {prob.shape} with classes on axis {axis} need one "
            f"label for each place, not labels of shape {label.shape}"
        )
        raise ShapeError(msg)
    values = label.reshape(shape)
    # NaN, infinities and what no integer holds count as one bad label.
    if not (usable := np.abs(values) < _LABEL_BOUND).all():
        values = np.where(usable, values, -_LABEL_BOUND)
    labels = values.astype(np.int64)
    counted = np.ones(shape, bool)
    if ignore_label is not None:
        counted = labels != ignore_label
    classes = prob.shape[axis]
    bad = counted & ((labels < 0) | (labels >= classes))
    if bad.any():
        place = int(np.argmax(bad.reshape(-1)))
        msg = (
            f"label {label.reshape(-1)[place]:g} (number {place} of the batch) is not "
            f"one of the {classes} classes 0 to {classes - 1}: fix the data or "
            "num_output, or set ignore_label"
        )
        raise LayerError(msg)
    return np.where(counted, labels, 0), counted


class ReferenceLoss:
    """`LossOps` in NumPy; arrays may have any strides."""

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""
        if x.size == 0:
            return
        np.subtract(x, x.max(axis=axis, keepdims=True), out=y)
        with np.errstate(under="ignore"):
            np.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""
        dot = (dy * y).sum(axis=axis, keepdims=True)
        np.subtract(dy, dot, out=dx)
        dx *= y

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -log prob[label] (at least FLT_MIN), labels counted.

        Raises:
            LayerError: a label out of range, which Caffe reads memory with.
        """
        labels, counted = labels_like(prob, label, axis, ignore_label)
        if labels.size == 0:
            sums[...] = 0
            return
        picked = np.take_along_axis(prob, labels, axis)[counted]
        # maximum() would let a NaN through all the same: so it must, to be seen.
        losses = -np.log(np.maximum(picked, _FLT_MIN).astype(np.float64))
        sums[...] = float(losses.sum()), np.count_nonzero(counted)

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored; dx may be prob."""
        labels, counted = labels_like(prob, label, axis, ignore_label)
        if labels.size == 0:
            return
        factor = prob.dtype.type(weight[0])
        picked = (np.take_along_axis(prob, labels, axis) - 1) * factor
        np.multiply(prob, factor, out=dx)
        np.put_along_axis(dx, labels, picked, axis)
        if not counted.all():
            dx *= counted
