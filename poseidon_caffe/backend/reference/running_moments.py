"""Moments of batches, kept as decaying sums, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["ReferenceRunningMoments"]


class _Adds(Protocol):
    def add(self, srcs: Sequence[Array], dst: Array, coeffs: Sequence[float]) -> None:
        """dst = sum of coeffs[i] * srcs[i]."""


class ReferenceRunningMoments:
    """`RunningMomentOps` by the backend's own sums."""

    def load_moments(
        self: _Adds, total_mean: Array, total_var: Array, weight: Array, mean: Array,
        var: Array,
    ) -> None:  # fmt: skip
        """mean, var = the sums divided by their weight; 0 for a weight of 0."""
        total = float(weight[0])
        factor = 0.0 if total == 0 else 1 / total
        self.add([total_mean], mean, [factor])
        self.add([total_var], var, [factor])

    def store_moments(
        self: _Adds, mean: Array, var: Array, total_mean: Array, total_var: Array,
        weight: Array, keep: float, unbiased: float,
    ) -> None:  # fmt: skip
        """sums = keep * sums + mean, unbiased * var; weight = keep * weight + 1."""
        self.add([weight], weight, [keep])
        weight += 1
        self.add([mean, total_mean], total_mean, [1.0, keep])
        self.add([var, total_var], total_var, [unbiased, keep])
