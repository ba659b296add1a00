"""Copies between kernels' arrays and this machine's, made while kernels run."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["Moment", "TransferOps", "Transfers"]


class Moment(Protocol):
    """The end of a copy, for any thread."""

    def done(self) -> bool:
        """Whether it is over; returns at once."""

    def wait(self) -> None:
        """Return once it is over."""


class Transfers(Protocol):
    """Copies for a thread that computes; it calls all methods, none waits.

    All arrays are flat and each copy's two of one size and type.
    """

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros that copies can be made from and to.

        Raises:
            MemoryError: there is not so much memory.
        """

    def fetch(self, source: Array, target: Array) -> Moment:
        """Copy what kernels given so far make of ``source`` to a pinned array.

        Nobody may write ``source`` before the copy's end: see `hold`.
        """

    def snap(self, source: Array, target: Array) -> Moment:
        """The same by way of a copy: kernels given from now on may write ``source``.

        ``source`` may be of any layout; its elements come in C order.
        """

    def store(self, source: Array, target: Array, after: Moment | None) -> Moment:
        """Copy a pinned array to where kernels given from now on will find it.

        Args:
            source: must stay as it is until the copy's end.
            target: of the backend's memory.
            after: of a copy made here, before which kernels may still use
                ``target``; None: all kernels given so far may, as where it is new
                and being cleared.
        """

    def hold(self, moment: Moment) -> None:
        """Let kernels given from now on begin after a copy's end."""

    def room(self, count: int, dtype: np.dtype | type) -> Array:
        """A flat array of zeros in the backend's memory; others may use it at once.

        Raises:
            MemoryError: there is not so much memory.
        """

    def keep(self, source: Array, target: Array) -> Moment:
        """Copy within the backend's memory, in turn with the kernels.

        ``source`` may be of any layout; its elements come in C order.
        """

    def now(self) -> Moment:
        """The end of all kernels given so far."""


class TransferOps(Protocol):
    """Copies beside the computing."""

    def transfers(self) -> Transfers:
        """Ways of their own for copies, one in each direction."""
