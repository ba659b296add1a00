"""Moments of batches, kept as decaying sums."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["RunningMomentOps"]


class RunningMomentOps(Protocol):
    """Sums of means (C,), of variances (C,), and their weight (1,), as Caffe's."""

    def load_moments(
        self, total_mean: Array, total_var: Array, weight: Array, mean: Array,
        var: Array,
    ) -> None:  # fmt: skip
        """mean, var = the sums divided by their weight; 0 for a weight of 0."""

    def store_moments(
        self, mean: Array, var: Array, total_mean: Array, total_var: Array,
        weight: Array, keep: float, unbiased: float,
    ) -> None:  # fmt: skip
        """sums = keep * sums + mean, unbiased * var; weight = keep * weight + 1."""
