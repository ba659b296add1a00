"""Losses over labels and targets: pieces that stay in the cache, on all threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.chain import each, each_row, of, one
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.layout import alike, flat_together
from poseidon_caffe.backend.cpu.loss import class_planes
from poseidon_caffe.backend.cpu.pieces import (
    CpuPieces,
    sum_of,
    sum_of_squares,
)
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.backend.reference.label_losses import (
    ReferenceLabelLosses,
    at_labels,
)
from poseidon_caffe.backend.reference.loss import labels_like
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuLabelLosses"]

_MINUS_ONE, _ZERO, _ONE = (np.full(1, value, np.float32) for value in (-1, 0, 1))
#: Elements of a piece of NumPy's work: its arrays fit a core's cache, and there are
#: few hand-overs of the interpreter's lock.
_PIECE_COUNT = 1 << 16
#: Elements that are worth a thread.
_SHARE_COUNT = 1 << 16


class CpuLabelLosses(CpuPieces, ReferenceLabelLosses):
    """`LabelLossOps`: the reference, piece by piece where a loss runs over much."""

    _pool: ThreadPool

    def _over_pieces(
        self, rows: int, length: int, piece: Callable[[slice], float]
    ) -> float:
        """The sum of ``piece`` over 0..rows; exact, whatever thread comes first."""
        found: list[float] = []
        step = max(1, _PIECE_COUNT // length)

        def work(first: int, last: int) -> None:
            found.extend(
                piece(slice(start, min(start + step, last)))
                for start in range(first, last, step)
            )

        shares = max(1, min(self._pool.threads, rows * length // _SHARE_COUNT))
        ends = [rows * i // shares for i in range(shares + 1)]
        self._pool.run([partial(work, ends[i], ends[i + 1]) for i in range(shares)])
        return math.fsum(found)

    def sigmoid_loss(
        self, x: Array, target: Array, ignore_label: int | None, sums: Sums
    ) -> None:
        """sums = cross entropy of sigmoid(x) and ``target``, targets counted."""
        flat = flat_together(x, target) if alike(x, target) else None
        if flat is None:
            super().sigmoid_loss(x, target, ignore_label, sums)
            return
        scores, targets = flat
        ignored: list[int] = []

        def piece(part: slice, y: Array) -> float:
            t = targets[part]
            self._cross_entropy(scores[part], t, y)
            if ignore_label is not None:
                out = np.trunc(t) == ignore_label
                np.copyto(y, 0, where=out)
                ignored.append(int(np.count_nonzero(out)))
            return sum_of(y)

        total = self._sum_pieces(x.size, piece)
        sums[...] = total, x.size - sum(ignored)

    def _cross_entropy(self, x: Array, target: Array, y: Array) -> None:
        """y = ((x >= 0) - t) x + log(1 + exp(-|x|)), as Caffe has it."""
        count = x.size
        linear = self._chain(count, one(Alg.GE), each(Alg.SUB), each(Alg.MUL))
        linear(x, _ZERO, target, x, y)
        # A soft ReLU of slope -1 is -log(1 + exp(-x)).
        rest = (of(Alg.ABS), of(Alg.SOFT_RELU, -1.0), of(Alg.LINEAR, -1.0))
        self._chain(count, one(Alg.MUL), *rest, each(Alg.ADD))(x, _ONE, y, y)

    def sigmoid_loss_backward(
        self, x: Array, target: Array, ignore_label: int | None, weight: Weight,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (sigmoid(x) - target), 0 where ignored."""
        if not alike(x, target, dx):
            super().sigmoid_loss_backward(x, target, ignore_label, weight, dx)
            return
        steps = (one(Alg.MUL), of(Alg.LOGISTIC), each(Alg.SUB), one(Alg.MUL))
        run = self._chain(x.size, *steps)
        run(x, _ONE, target, weight.astype(np.float32), dx)
        if ignore_label is not None:
            in_blocks(self._pool, _clear, (target, dx), ignore_label)

    def hinge_loss(self, x: Array, label: Array, sums: Sums, *, squared: bool) -> None:
        """sums = sum of max(0, 1 + s x) or its squares, N."""
        if not (x.flags.c_contiguous and alike(x)):
            super().hinge_loss(x, label, sums, squared=squared)
            return
        labels = label.reshape(-1)

        def piece(part: slice, y: Array) -> float:
            scores, at = x[part], at_labels(labels[part])
            self._chain(y.size, one(Alg.ADD), of(Alg.RELU))(scores, _ONE, y)
            y.reshape(scores.shape)[at] = np.maximum(1 - scores[at], 0)
            return sum_of_squares(y) if squared else sum_of(y)

        sums[...] = self._sum_pieces(len(x), piece, x.shape[1]), len(x)

    def hinge_loss_backward(
        self, x: Array, label: Array, weight: Weight, dx: Array, *, squared: bool
    ) -> None:
        """dx = weight * s where 1 + s x > 0; squared: 2 weight s max(0, 1 + s x)."""
        if not (x.flags.c_contiguous and alike(x, dx)):
            super().hinge_loss_backward(x, label, weight, dx, squared=squared)
            return
        at = at_labels(label)
        own = x[at]
        factor = (2 * weight if squared else weight).astype(np.float32)
        if squared:
            run = self._chain(x.size, one(Alg.ADD), of(Alg.RELU), one(Alg.MUL))
            run(x, _ONE, factor, dx)
            dx[at] = -np.maximum(1 - own, 0) * factor
        else:
            self._chain(x.size, one(Alg.GT), one(Alg.MUL))(x, _MINUS_ONE, factor, dx)
            dx[at] = (own < 1) * -factor

    def infogain_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, floor: float, sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -gain[label, c] log(max(prob[c], floor)), labels counted."""
        rows = _rows(axis, prob)
        if rows is None:
            super().infogain_loss(prob, label, axis, ignore_label, gain, floor, sums)
            return
        labels, counted = labels_like(rows[0], label, 1, ignore_label)
        all_counted = bool(counted.all())

        def piece(part: slice) -> float:
            gains = np.take(gain, labels[part, 0], axis=0)
            if not all_counted:
                gains *= counted[part]
            given = rows[0][part]
            # The copy that maximum() makes is rarely needed; NaN goes there too.
            if not given.min(initial=1) >= floor:
                given = np.maximum(given, given.dtype.type(floor))
            logs = np.log(given)
            products = np.matmul(gains[:, None, :], logs[:, :, None])
            return -float(products.sum(dtype=np.float64))

        total = self._over_pieces(len(labels), rows[0].shape[1], piece)
        sums[...] = total, np.count_nonzero(counted)

    def infogain_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight (prob * sum of gain[label] - gain[label]), 0 where ignored."""
        rows = _rows(axis, prob, dx)
        if rows is None:
            super().infogain_loss_backward(
                prob, label, axis, ignore_label, gain, weight, dx
            )
            return
        labels, counted = labels_like(rows[0], label, 1, ignore_label)
        at, weighted = labels[:, 0], (gain * float(weight[0])).astype(np.float32)
        sums, gains = weighted.sum(axis=1)[at], np.take(weighted, at, axis=0)
        if not counted.all():
            sums *= counted[:, 0]
            gains *= counted
        count, places = gains.size, len(gains)
        run = self._chain(count, each_row(Alg.MUL), each(Alg.SUB), rows=places)
        run(rows[0], sums, gains, rows[1])


def _rows(axis: int, *arrays: Array) -> list[Array] | None:
    """The arrays as C-order matrices (places, classes), or None."""
    planes = class_planes(axis, *arrays)
    if planes is None or planes[0].shape[2] != 1:
        return None
    return [plane[:, :, 0] for plane in planes]


def _clear(target: Array, y: Array, ignore_label: int) -> None:
    np.copyto(y, 0, where=np.trunc(target) == ignore_label)
