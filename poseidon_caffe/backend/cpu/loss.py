"""Softmax on oneDNN, its loss by flat positions."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.chain import of, one
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.pieces import PIECE_COUNT, CpuPieces
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.backend.reference.loss import ReferenceLoss
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuLoss", "class_planes"]

_FLT_MIN = np.finfo(np.float32).tiny
#: Elements that are not worth waking threads for.
_FEW = 1 << 14
#: Classes up to which rows are short.
_SHORT = 32
#: Scores up to which exponentials and their sums are normal float32 numbers.
_SAFE = 64.0
_ONE = np.ones(1, np.float32)
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


class CpuLoss(CpuPieces, ReferenceLoss):
    """`LossOps` for arrays without gaps; others go to the reference."""

    dnnl: Dnnl
    _pool: ThreadPool

    def __init__(self) -> None:
        super().__init__()
        self._softmaxes: dict[Shape, tuple[Primitive, Primitive]] = {}

    def _softmax(self, shape: Shape) -> tuple[Primitive, Primitive]:
        """Forward and backward for arrays (outer, C, inner)."""
        key = (threading.get_ident(), *shape)
        if key not in self._softmaxes:
            _, classes, inner = shape
            flat = self.dnnl.desc(shape, (classes * inner, inner, 1))
            kind, axis = Alg.SOFTMAX, 1
            ahead = self.dnnl.describe(
                "softmax_forward", Prop.TRAINING, kind, flat, flat, axis
            )
            back = self.dnnl.describe(
                "softmax_backward", kind, flat, flat, flat, axis, ahead
            )
            self._softmaxes[key] = (
                Primitive(ahead, {Arg.SRC: flat, Arg.DST: flat}),
                Primitive(
                    back, {Arg.DST: flat, Arg.DIFF_DST: flat, Arg.DIFF_SRC: flat}
                ),
            )
        return self._softmaxes[key]

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""
        planes = class_planes(axis, x, y)
        if planes is None or x.size < _FEW:
            super().softmax(x, axis, y)
            return
        _, classes, inner = planes[0].shape
        if inner > 1 or classes > _SHORT or x.size <= PIECE_COUNT:
            self._softmax(planes[0].shape)[0](*planes)
            return
        rows, out = (plane[:, :, 0] for plane in planes)

        def piece(part: slice, _: Array) -> float:
            self._short_softmax(rows[part], out[part])
            return 0.0

        self._sum_pieces(len(rows), piece, classes)

    def _short_softmax(self, x: Array, y: Array) -> None:
        """Along short rows, over which the primitive takes twice as long."""
        if not (x.max() < _SAFE and x.min() > -_SAFE):
            self._softmax((*x.shape, 1))[0](x, y)
            return
        # Nothing overflows or vanishes, though no maximum is taken off first.
        self._chain(x.size, one(Alg.MUL), of(Alg.EXP))(x, _ONE, y)
        # A product with ones would be shared out to threads of NumPy's BLAS.
        y /= np.einsum("ij->i", y)[:, None]

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""
        planes = class_planes(axis, y, dy, dx)
        if planes is None or y.size < _FEW:
            super().softmax_backward(y, dy, axis, dx)
        else:
            self._softmax(planes[0].shape)[1](*planes)

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -log prob[label] (at least FLT_MIN), labels counted.

        Raises:
            LayerError: a label out of range, which Caffe reads memory with.
        """
        planes = class_planes(axis, prob)
        labels = None if planes is None else _labels(planes[0], label, ignore_label)
        if planes is None or labels is None:
            super().softmax_loss(prob, label, axis, ignore_label, sums)
            return
        flat, found = planes[0].reshape(-1), []

        def piece(start: int, stop: int) -> None:
            places = _places(planes[0], labels, start, stop, ignore_label)
            logs = np.maximum(flat[places], _FLT_MIN)
            np.log(logs, out=logs)
            found.append((float(logs.sum(dtype=np.float64)), places.size))

        self._over_rows(labels, piece)
        sums[...] = -math.fsum(part for part, _ in found), sum(n for _, n in found)

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored; dx may be prob."""
        planes = class_planes(axis, prob, dx)
        labels = None if planes is None else _labels(planes[0], label, ignore_label)
        if planes is None or labels is None:
            super().softmax_loss_backward(prob, label, axis, ignore_label, weight, dx)
            return
        source, target = planes
        factor = weight.astype(np.float32)
        self._chain(source.size, one(Alg.MUL))(source, factor, target)
        flat = target.reshape(-1)

        def piece(start: int, stop: int) -> None:
            flat[_places(source, labels, start, stop, ignore_label)] -= factor
            if ignore_label is not None:
                ignored = np.trunc(labels[start:stop]) == ignore_label
                at, column = np.nonzero(ignored)
                target[start + at, :, column] = 0

        self._over_rows(labels, piece)

    def _over_rows(self, labels: Array, piece: Callable[[int, int], None]) -> None:
        """``piece(start, stop)`` over the rows of the labels, on all threads."""
        rows = len(labels)
        shares = max(1, min(self._pool.threads, rows, labels.size // _FEW))
        ends = [rows * i // shares for i in range(shares + 1)]
        self._pool.run([partial(piece, ends[i], ends[i + 1]) for i in range(shares)])


def _labels(planes: Array, label: Array, ignore_label: int | None) -> Array | None:
    """Labels as they come, (outer, inner).

    None if a label that counts is no class, or there are too many or too few: the
    reference says so.
    """
    outer, classes, inner = planes.shape
    if label.size != outer * inner:
        return None
    values = label.reshape(outer, inner)
    # Nearly always all are in range, which two reductions show; NaN is not.
    if values.size and not (values.min() > -1 and values.max() < classes):
        bad = ~((values > -1) & (values < classes))
        if ignore_label is not None:
            bad &= np.trunc(values) != ignore_label
        if bad.any():
            return None
    return values


def _places(
    planes: Array, values: Array, start: int, stop: int, ignore_label: int | None
) -> Array:
    """Where in flat memory the elements of counted labels of some rows are."""
    _, classes, inner = planes.shape
    labels = values[start:stop].astype(np.int64)
    step = classes * inner
    places = np.arange(start * step, stop * step, step)[:, None] + labels * inner
    if inner > 1:
        places += np.arange(inner)
    if ignore_label is not None:
        places = places[labels != ignore_label]
    flat: Array = places.reshape(-1)
    return flat
