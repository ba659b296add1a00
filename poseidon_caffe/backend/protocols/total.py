"""The loss of a net: the weighted sum over all its tops, read once a pass."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["LossTotal", "TotalOps"]


class LossTotal(Protocol):
    """Adds up the losses of one net, where its memory is."""

    def clear(self) -> None:
        """Begin a pass with 0."""

    def add(self, loss: Array, weight: Array) -> None:
        """Add the sum of loss * weight, two arrays of one shape."""

    def read(self) -> float:
        """The sum; waits for the work that computes it.

        Raises:
            LayerError: a kernel met data that it cannot work with, such as a label
                that is no class.
        """


class TotalOps(Protocol):
    """Makes totals."""

    def loss_total(self) -> LossTotal:
        """A total for one net."""
