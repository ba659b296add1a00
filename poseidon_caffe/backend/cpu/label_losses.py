"""Losses over labels and targets: pieces that stay in the cache, on all threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.layout import flat_together
from poseidon_caffe.backend.cpu.loss import class_planes
from poseidon_caffe.backend.reference.label_losses import ReferenceLabelLosses
from poseidon_caffe.backend.reference.loss import labels_like
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuLabelLosses"]

_Sums = tuple[float, int]


class CpuLabelLosses(ReferenceLabelLosses):
    """`LabelLossOps`: the reference, piece by piece where a loss runs over much."""

    _pool: ThreadPool

    def _over_pieces(
        self, count: int, step: int, piece: Callable[[slice], _Sums]
    ) -> _Sums:
        """The sums of ``piece`` over 0..count; exact, whatever thread comes first."""
        found: list[_Sums] = []

        def work(first: int, last: int) -> None:
            found.extend(
                piece(slice(start, min(start + step, last)))
                for start in range(first, last, step)
            )

        shares = max(1, min(self._pool.threads, count // (4 * step)))
        ends = [count * i // shares for i in range(shares + 1)]
        self._pool.run([partial(work, ends[i], ends[i + 1]) for i in range(shares)])
        return math.fsum(total for total, _ in found), sum(n for _, n in found)

    def sigmoid_loss(
        self, x: Array, target: Array, ignore_label: int | None
    ) -> tuple[float, int]:
        """(sum of the cross entropy of sigmoid(x) and ``target``, targets counted)."""
        flat = flat_together(x, target)
        if flat is None:
            return super().sigmoid_loss(x, target, ignore_label)
        scores, targets = flat

        def piece(part: slice) -> _Sums:
            each = _cross_entropy(scores[part], targets[part])
            if ignore_label is None:
                return float(each.sum(dtype=np.float64)), each.size
            counted = np.trunc(targets[part]) != ignore_label
            total = each.sum(dtype=np.float64, where=counted)
            return float(total), int(np.count_nonzero(counted))

        return self._over_pieces(x.size, BLOCK_COUNT, piece)

    def sigmoid_loss_backward(
        self, x: Array, target: Array, ignore_label: int | None, weight: float,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (sigmoid(x) - target), 0 where ignored."""
        flat = flat_together(x, target, dx)
        if flat is None:
            super().sigmoid_loss_backward(x, target, ignore_label, weight, dx)
            return
        scores, targets, out = flat

        def piece(part: slice) -> _Sums:
            y, t = out[part], targets[part]
            np.negative(scores[part], out=y)
            with np.errstate(over="ignore"):
                np.exp(y, out=y)
            y += 1
            np.divide(1, y, out=y)
            y -= t
            y *= weight
            if ignore_label is not None:
                y[np.trunc(t) == ignore_label] = 0
            return 0.0, 0

        self._over_pieces(x.size, BLOCK_COUNT, piece)

    def infogain_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, floor: float,
    ) -> tuple[float, int]:  # fmt: skip
        """(sum of -gain[label, c] log(max(prob[c], floor)), labels counted)."""
        rows = _rows(axis, prob)
        if rows is None:
            return super().infogain_loss(prob, label, axis, ignore_label, gain, floor)
        labels, counted = labels_like(rows[0], label, 1, ignore_label)
        all_counted = bool(counted.all())

        def piece(part: slice) -> _Sums:
            gains = np.take(gain, labels[part, 0], axis=0)
            if not all_counted:
                gains *= counted[part]
            logs = np.maximum(rows[0][part], rows[0].dtype.type(floor))
            np.log(logs, out=logs)
            gains *= logs
            return -float(gains.sum(dtype=np.float64)), 0

        step = max(1, BLOCK_COUNT // rows[0].shape[1])
        total, _ = self._over_pieces(len(labels), step, piece)
        return total, int(np.count_nonzero(counted))

    def infogain_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, weight: float, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight (prob * sum of gain[label] - gain[label]), 0 where ignored."""
        rows = _rows(axis, prob, dx)
        if rows is None:
            super().infogain_loss_backward(
                prob, label, axis, ignore_label, gain, weight, dx
            )
            return
        labels, counted = labels_like(rows[0], label, 1, ignore_label)
        all_counted = bool(counted.all())
        sums = gain.sum(axis=1) * gain.dtype.type(weight)
        weighted = gain * gain.dtype.type(weight)

        def piece(part: slice) -> _Sums:
            at, y = labels[part, 0], rows[1][part]
            np.multiply(rows[0][part], sums[at][:, None], out=y)
            y -= np.take(weighted, at, axis=0)
            if not all_counted:
                y *= counted[part]
            return 0.0, 0

        step = max(1, BLOCK_COUNT // rows[0].shape[1])
        self._over_pieces(len(labels), step, piece)


def _rows(axis: int, *arrays: Array) -> list[Array] | None:
    """The arrays as C-order matrices (places, classes), or None."""
    planes = class_planes(axis, *arrays)
    if planes is None or planes[0].shape[2] != 1:
        return None
    return [plane[:, :, 0] for plane in planes]


def _cross_entropy(x: Array, target: Array) -> Array:
    """max(x, 0) - x t + log(1 + exp(-|x|)), as Caffe has it: NumPy's log1p is slow."""
    small = np.abs(x)
    np.negative(small, out=small)
    np.exp(small, out=small)
    small += 1
    np.log(small, out=small)
    small += np.maximum(x, 0)
    small -= x * target
    return small
