"""Moments of batches, kept as decaying sums on the device."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.types import Array

__all__ = ["GpuRunningMoments"]


class GpuRunningMoments(GpuFamily):
    """`RunningMomentOps` on a GPU: one kernel each, nothing is read on the host."""

    def load_moments(
        self, total_mean: Array, total_var: Array, weight: Array, mean: Array,
        var: Array,
    ) -> None:  # fmt: skip
        """mean, var = the sums divided by their weight; 0 for a weight of 0."""
        self.kernels("running_moments").each(
            "load_moments", mean.dtype, mean.size, total_mean, total_var, weight,
            mean, var, mean.size,
        )  # fmt: skip

    def store_moments(
        self, mean: Array, var: Array, total_mean: Array, total_var: Array,
        weight: Array, keep: float, unbiased: float,
    ) -> None:  # fmt: skip
        """sums = keep * sums + mean, unbiased * var; weight = keep * weight + 1."""
        self.kernels("running_moments").each(
            "store_moments", mean.dtype, mean.size, mean, var, total_mean, total_var,
            weight, float(keep), float(unbiased), mean.size,
        )  # fmt: skip
