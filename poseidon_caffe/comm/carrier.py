"""What lies between the memory that a net computes in and that which travels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, Shape

__all__ = ["DIRECT", "Carrier", "DirectCarrier", "ParamBlob"]


class ParamBlob(Protocol):
    """A parameter's memory: the part of a Blob that a cluster uses."""

    @property
    def data(self) -> Array:
        """Values, plain C order."""

    @property
    def diff(self) -> Array:
        """Gradient, plain C order; always the same memory."""

    def touch(self) -> None:
        """Say that ``data`` changed."""


class Carrier(Protocol):
    """Moves slots between the net's memory and the blobs of a `Model`.

    The main thread calls all methods; none waits for what was computed last.
    """

    def zeros(self, shape: Shape, dtype: np.dtype | type) -> Array:
        """A NumPy array for `take`."""

    def fetch(self, slot: ParamSlot) -> None:
        """Begin to bring what the slot contributes: its gradient, or statistics."""

    def take(self, slots: Sequence[int], factor: Array, target: Array) -> None:
        """Begin to copy a factor of slots, which the next backward overwrites.

        Args:
            slots: whose gradient it is a part of.
            factor: an array of the net's backend.
            target: a contiguous part of an array of `zeros`, of the same shape.
        """

    def then(self, slots: Sequence[int], action: Callable[[], None]) -> None:
        """Call ``action`` once everything begun for the slots is there.

        Now, or later in the courier's thread; in the order of these calls.
        """

    def quiet(self, slot: int) -> None:
        """Return once nobody reads or writes the slot's values in the model's blob."""

    def show(self, slot: int) -> None:
        """Let the net's next work find the slot's values as the model's blob has them.

        And let it change the gradient again.
        """


class DirectCarrier:
    """The net computes in the very memory that travels."""

    def zeros(self, shape: Shape, dtype: np.dtype | type) -> Array:
        """An array of zeros."""
        return np.zeros(shape, dtype)

    def fetch(self, slot: ParamSlot) -> None:
        """It is there."""

    def take(self, slots: Sequence[int], factor: Array, target: Array) -> None:
        """Copy it."""
        target[...] = factor

    def then(self, slots: Sequence[int], action: Callable[[], None]) -> None:
        """Call it."""
        action()

    def quiet(self, slot: int) -> None:
        """Nobody else knows of the memory."""

    def show(self, slot: int) -> None:
        """It sees them."""


DIRECT = DirectCarrier()
