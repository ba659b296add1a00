"""Copies where kernels use this machine's own memory: made at once."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.memory import HOST
from poseidon_caffe.backend.protocols import Moment, Transfers
from poseidon_caffe.types import Array

__all__ = ["HostTransfers", "ReferenceTransfer"]


class _Over:
    """A copy that was made at once."""

    def done(self) -> bool:
        """Always."""
        return True

    def wait(self) -> None:
        """Return at once."""


_OVER = _Over()


class HostTransfers:
    """`Transfers` within one memory."""

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros."""
        return HOST.zeros(count, dtype)

    def fetch(self, source: Array, target: Array) -> Moment:
        """Copy."""
        np.copyto(target, source)
        return _OVER

    def snap(self, source: Array, target: Array) -> Moment:
        """Copy."""
        np.copyto(target, source.reshape(-1))
        return _OVER

    def store(self, source: Array, target: Array, after: Moment | None) -> Moment:
        """Copy."""
        np.copyto(target, source)
        return _OVER

    def hold(self, moment: Moment) -> None:
        """Nothing: it is over."""

    def room(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros."""
        return HOST.zeros(count, dtype)

    def keep(self, source: Array, target: Array) -> Moment:
        """Copy."""
        return self.snap(source, target)

    def now(self) -> Moment:
        """Kernels are over when they return."""
        return _OVER


class ReferenceTransfer:
    """`TransferOps` of both CPU backends."""

    def transfers(self) -> Transfers:
        """Copies made at once."""
        return HostTransfers()
