"""The loss of a net in double precision."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["HostTotal", "ReferenceTotal"]


class HostTotal:
    """`LossTotal` of NumPy arrays."""

    def __init__(self) -> None:
        self._sum = 0.0

    def clear(self) -> None:
        """Begin a pass with 0."""
        self._sum = 0.0

    def add(self, loss: Array, weight: Array) -> None:
        """Add the sum of loss * weight."""
        self._sum += float(np.vdot(loss, weight))

    def read(self) -> float:
        """The sum."""
        return self._sum


class ReferenceTotal:
    """`TotalOps` of both CPU backends."""

    def loss_total(self) -> HostTotal:
        """A total for one net."""
        return HostTotal()
