"""Means over GPUs, made by the GPUs themselves."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.protocols.transfer import Moment
from poseidon_caffe.types import Array

__all__ = ["Reducer"]


class Reducer(Protocol):
    """One rank's part; all ranks call `mean` in the same order, by one thread each."""

    def mean(self, array: Array) -> Moment:
        """Begin to replace an array by its mean over all ranks.

        The mean is of what kernels given so far make of it; until it is there nobody
        may use the array: see `hold`.  All ranks get the same bits.

        Args:
            array: flat, of the backend's memory, of one size and type everywhere.
        """

    def hold(self, moment: Moment) -> None:
        """Let kernels given from now on begin after a mean is there."""

    def close(self) -> None:
        """Give up what it holds; the last call."""
