"""Losses over labels and targets."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.classes import check_label_count, ignoring
from poseidon_caffe.backend.gpu.loss import GpuLoss
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["GpuLabelLosses"]


class GpuLabelLosses(GpuLoss):
    """`LabelLossOps` on a GPU; labels that are no class count for nothing."""

    def log_loss(self, prob: Array, label: Array, floor: float, sums: Sums) -> None:
        """sums = sum of -log(max(prob[i, label[i]], floor)), N."""
        labels = self.plain_params(label, prob.dtype)
        with self.planes(1, [prob], []) as planes:
            self.sum_logs(planes, labels, floor, None, sums)

    def log_loss_backward(
        self, prob: Array, label: Array, floor: float, weight: Weight, dx: Array
    ) -> None:
        """dx = -weight / max(prob, floor) at the labels, 0 elsewhere."""
        labels = self.plain_params(label, prob.dtype)
        with self.planes(1, [prob], [dx]) as planes:
            self.along_classes(
                "log_loss_backward", planes, planes.reads[0], labels, floor, weight,
                planes.writes[0],
            )  # fmt: skip

    def hinge_loss(self, x: Array, label: Array, sums: Sums, *, squared: bool) -> None:
        """sums = sum of max(0, 1 + s x) or its squares, N."""
        labels = self.plain_params(label, x.dtype)
        with self.planes(1, [x], []) as planes:
            before = (planes.reads[0], labels, squared)
            self.sum_classes("hinge_loss", planes, sums, before)

    def hinge_loss_backward(
        self, x: Array, label: Array, weight: Weight, dx: Array, *, squared: bool
    ) -> None:
        """dx = weight * s where 1 + s x > 0; squared: 2 weight s max(0, 1 + s x)."""
        labels = self.plain_params(label, x.dtype)
        with self.planes(1, [x], [dx]) as planes:
            self.along_classes(
                "hinge_loss_backward", planes, planes.reads[0], labels, squared,
                weight, planes.writes[0],
            )  # fmt: skip

    def infogain_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, floor: float, sums: Sums,
    ) -> None:  # fmt: skip
        """sums = sum of -gain[label, c] log(max(prob[c], floor)), labels counted."""
        check_label_count(prob, label, axis)
        labels = self.plain_params(label, prob.dtype)
        gains = self.plain_params(gain, prob.dtype, "gain")
        with self.planes(axis, [prob], []) as planes:
            before = (planes.reads[0], labels, gains, floor, *ignoring(ignore_label))
            self.sum_classes("infogain_loss", planes, sums, before)

    def infogain_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        gain: Array, weight: Weight, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight (prob * sum of gain[label] - gain[label]), 0 where ignored."""
        check_label_count(prob, label, axis)
        labels = self.plain_params(label, prob.dtype)
        gains = self.plain_params(gain, prob.dtype, "gain")
        with self.planes(axis, [prob], [dx]) as planes:
            self.along_classes(
                "infogain_loss_backward", planes, planes.reads[0], labels, gains,
                *ignoring(ignore_label), weight, planes.writes[0],
            )  # fmt: skip

    def sigmoid_loss(
        self, x: Array, target: Array, ignore_label: int | None, sums: Sums
    ) -> None:
        """sums = cross entropy of sigmoid(x) and ``target``, targets counted."""
        with self.alike([x, self._targets(target, x)], []) as ((scores, targets), _):

            def launch(blocks: int, parts: Array) -> None:
                self.kernels("pair_losses").blocks(
                    "sigmoid_loss", x.dtype, blocks, scores, targets,
                    *ignoring(ignore_label), parts, x.size,
                )  # fmt: skip

            self.add_up_each(sums, x.size, launch)

    def sigmoid_loss_backward(
        self, x: Array, target: Array, ignore_label: int | None, weight: Weight,
        dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (sigmoid(x) - target), 0 where ignored."""
        targets = self._targets(target, x)
        with self.alike([x, targets], [dx]) as ((scores, wanted), (out,)):
            self.kernels("pair_losses").each(
                "sigmoid_loss_backward", x.dtype, x.size, scores, wanted,
                *ignoring(ignore_label), weight, out, x.size,
            )  # fmt: skip

    def _targets(self, target: Array, x: Array) -> Array:
        """Targets as kernels take them, in whatever layout."""
        if target.dtype == param_dtype(x.dtype):
            return target
        return self.plain_params(target, x.dtype, "targets")
