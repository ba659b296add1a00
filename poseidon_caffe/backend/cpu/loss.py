"""Softmax on oneDNN, its loss by flat positions."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Dnnl, Primitive, Prop
from poseidon_caffe.backend.reference.loss import ReferenceLoss
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuLoss", "class_planes"]

_FLT_MIN = np.finfo(np.float32).tiny
#: Elements that are not worth waking threads for.
_FEW = 1 << 14
_FLOAT32 = np.dtype(np.float32)


def class_planes(axis: int, *arrays: Array) -> list[Array] | None:
    """Arrays of one shape as (outer, C, inner), classes in the middle, or None.

    The other axes keep their order, so that labels in C order fit.  Either all
    arrays are in C order, or all channels-last with the classes as channels.
    """
    shape = arrays[0].shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if any(a.dtype != _FLOAT32 for a in arrays) or not arrays[0].size:
        return None
    if all(a.flags.c_contiguous for a in arrays):
        return [a.reshape(outer, shape[axis], inner) for a in arrays]
    if axis == 1:
        moved = [np.moveaxis(a, 1, -1) for a in arrays]
        if all(a.flags.c_contiguous for a in moved):
            return [a.reshape(outer * inner, shape[1], 1) for a in moved]
    return None


class CpuLoss(ReferenceLoss):
    """`LossOps` for arrays without gaps; others go to the reference."""

    dnnl: Dnnl
    _pool: ThreadPool

    def __init__(self) -> None:
        super().__init__()
        self._softmaxes: dict[Shape, tuple[Primitive, Primitive]] = {}

    def _softmax(self, shape: Shape) -> tuple[Primitive, Primitive]:
        """Forward and backward for arrays (outer, C, inner)."""
        if shape not in self._softmaxes:
            _, classes, inner = shape
            flat = self.dnnl.desc(shape, (classes * inner, inner, 1))
            kind, axis = Alg.SOFTMAX, 1
            ahead = self.dnnl.describe(
                "softmax_forward", Prop.TRAINING, kind, flat, flat, axis
            )
            back = self.dnnl.describe(
                "softmax_backward", kind, flat, flat, flat, axis, ahead
            )
            self._softmaxes[shape] = (
                Primitive(ahead, {Arg.SRC: flat, Arg.DST: flat}),
                Primitive(
                    back, {Arg.DST: flat, Arg.DIFF_DST: flat, Arg.DIFF_SRC: flat}
                ),
            )
        return self._softmaxes[shape]

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""
        planes = class_planes(axis, x, y)
        if planes is None or x.size < _FEW:
            super().softmax(x, axis, y)
        else:
            self._softmax(planes[0].shape)[0](*planes)

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""
        planes = class_planes(axis, y, dy, dx)
        if planes is None or y.size < _FEW:
            super().softmax_backward(y, dy, axis, dx)
        else:
            self._softmax(planes[0].shape)[1](*planes)

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None
    ) -> tuple[float, int]:
        """(sum of -log prob[label] (at least FLT_MIN), number of labels counted).

        Raises:
            LayerError: a label out of range, which Caffe reads memory with.
        """
        planes = class_planes(axis, prob)
        places = None if planes is None else _positions(planes[0], label, ignore_label)
        if planes is None or places is None:
            return super().softmax_loss(prob, label, axis, ignore_label)
        picked = planes[0].reshape(-1)[places]
        logs = np.log(np.maximum(picked, _FLT_MIN))
        return -float(logs.sum(dtype=np.float64)), places.size

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: float, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored; dx may be prob."""
        planes = class_planes(axis, prob, dx)
        places = None if planes is None else _positions(planes[0], label, ignore_label)
        if planes is None or places is None:
            super().softmax_loss_backward(prob, label, axis, ignore_label, weight, dx)
            return
        source, target = planes
        outer, _, inner = source.shape
        factor = np.float32(weight)
        in_blocks(self._pool, _scale, (source, target), factor)
        target.reshape(-1)[places] -= factor
        if places.size < outer * inner:
            ignored = np.trunc(label.reshape(outer, inner)) == ignore_label
            at, column = np.nonzero(ignored)
            target[at, :, column] = 0


def _scale(x: Array, y: Array, factor: np.float32) -> None:
    np.multiply(x, factor, out=y)


def _positions(planes: Array, label: Array, ignore_label: int | None) -> Array | None:
    """Where in flat memory the counted labels' elements are.

    None if a label is no class, or there are too many or too few: the reference
    says so.
    """
    outer, classes, inner = planes.shape
    if label.size != outer * inner:
        return None
    values = label.reshape(outer, inner)
    if not (np.abs(values) < 2**31).all():
        return None
    labels = values.astype(np.int32)
    places = np.multiply(labels, inner, dtype=np.int64)
    places += np.arange(outer)[:, None] * (classes * inner)
    places += np.arange(inner)
    counted: Array | None = None
    if ignore_label is not None:
        counted = labels != ignore_label
        labels, places = labels[counted], places[counted]
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        return None
    return places.reshape(-1)
