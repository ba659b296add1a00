"""Checks of the numbers in data, which raise at once."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import NumberError
from poseidon_caffe.types import Array

__all__ = ["ReferenceFaults", "ReferenceNumberCheck"]


class ReferenceNumberCheck:
    """`NumberCheck` in NumPy."""

    def __init__(
        self, error: NumberError, ignored: int | None, *, negative_fractions: bool
    ) -> None:
        self._error, self._ignored = error, ignored
        self._negative_fractions = negative_fractions

    def run(self, values: Array, count: int, index: Array | None = None) -> None:
        """Raise the error of the first number out of range."""
        # Nearly always all are in range, which two reductions show; NaN is not.
        if values.size and not (self._least_fits(values) and values.max() < count):
            self._look(values, count)
        if index is not None:
            index[...] = values.reshape(-1).astype(np.int64)

    def _least_fits(self, values: Array) -> bool:
        least = values.min()
        return bool(least > -1 if self._negative_fractions else least >= 0)

    def _look(self, values: Array, count: int) -> None:
        good = values > -1 if self._negative_fractions else values >= 0
        good &= values < count
        if self._ignored is not None:
            good |= np.trunc(values) == self._ignored
        if not good.all():
            first = int(np.argmin(good))
            raise self._error(float(values.reshape(-1)[first]), first, count)


class ReferenceFaults:
    """`FaultOps` where arrays are NumPy's."""

    def number_check(
        self,
        error: NumberError,
        *,
        ignored: int | None = None,
        negative_fractions: bool = True,
    ) -> ReferenceNumberCheck:
        """A check for one layer."""
        return ReferenceNumberCheck(
            error, ignored, negative_fractions=negative_fractions
        )

    def raise_faults(self) -> None:
        """Nothing is left to raise: checks do it at once."""
