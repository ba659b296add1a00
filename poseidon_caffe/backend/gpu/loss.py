"""Softmax and the multinomial logistic loss on it."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.classes import (
    GpuClasses,
    check_label_count,
    ignoring,
)
from poseidon_caffe.backend.gpu.planes import Planes
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["GpuLoss"]

_FLT_MIN = float(np.finfo(np.float32).tiny)


class GpuLoss(GpuClasses):
    """`LossOps` on a GPU; labels that are no class count for nothing."""

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""
        if x.size:
            with self.planes(axis, [x], [y]) as planes:
                arrays = (*planes.reads, *planes.writes)
                self.along_classes("softmax", planes, *arrays)

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""
        if y.size:
            with self.planes(axis, [y, dy], [dx]) as planes:
                arrays = (*planes.reads, *planes.writes)
                self.along_classes("softmax_backward", planes, *arrays)

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -log prob[label] (at least FLT_MIN), labels counted."""
        check_label_count(prob, label, axis)
        labels = self.plain_params(label, prob.dtype)
        with self.planes(axis, [prob], []) as planes:
            self.sum_logs(planes, labels, _FLT_MIN, ignore_label, sums)

    def sum_logs(
        self, planes: Planes, labels: Array, floor: float,
        ignore_label: int | None, sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -log(max(prob[label], floor)), labels counted."""
        prob = planes.reads[0]

        def launch(blocks: int, parts: Array) -> None:
            self.kernels("classes").blocks(
                "log_loss", prob.dtype, blocks, prob, labels, floor,
                *ignoring(ignore_label), parts, planes.places, planes.classes,
                planes.inner,
            )  # fmt: skip

        self.add_up_each(sums, planes.places, launch)

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored; dx may be prob."""
        check_label_count(prob, label, axis)
        if prob.size == 0:
            return
        labels = self.plain_params(label, prob.dtype)
        with self.planes(axis, [prob], [dx]) as planes:
            self.along_classes(
                "softmax_loss_backward", planes, planes.reads[0], labels,
                *ignoring(ignore_label), weight, planes.writes[0],
            )  # fmt: skip
