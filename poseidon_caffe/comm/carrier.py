"""What lies between the memory that a net computes in and that which travels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, Shape

__all__ = [
    "DIRECT",
    "Carrier",
    "DirectCarrier",
    "GradientScale",
    "ParamBlob",
    "Rebuilder",
]


class ParamBlob(Protocol):
    """A parameter's memory: the part of a Blob that a cluster uses."""

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""

    @property
    def data(self) -> Array:
        """Values, plain C order."""

    @property
    def mutable_cpu_data(self) -> Array:
        """The values as a NumPy array where kernels have not used them yet."""

    @property
    def diff(self) -> Array:
        """Gradient, plain C order; always the same memory."""

    def gradient_target(self) -> tuple[Array, bool]:
        """``diff`` for who overwrites it, and whether it holds a gradient yet."""

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


class Rebuilder(Protocol):
    """Makes gradients from gathered factors and applies the rule, on every worker.

    The main thread calls all methods.
    """

    def rebuild(
        self, weights: int, bias: int | None, top_diffs: Array, bottoms: Array
    ) -> None:
        """Overwrite the gradients of an inner product's slots with the products.

        Args:
            weights: slot index.
            bias: likewise, or None.
            top_diffs: (R, M), all workers' rows; left alone until `release`.
            bottoms: (R, K), likewise.
        """

    def sum_of_squares(self, slots: Sequence[int]) -> float:
        """Of the gradients that were rebuilt."""

    def apply(self, iteration: int, slots: Sequence[int], scale: float) -> None:
        """Apply the rule to the slots; see `RowUpdater.apply`."""

    def release(self, weights: int, action: Callable[[], None]) -> None:
        """Call ``action`` once nobody reads the factors any more, in any thread."""

    def values(self, slots: Sequence[int]) -> list[Array]:
        """The slots' values as NumPy arrays, to read, or to write for `take`."""

    def histories(self, slots: Sequence[int]) -> list[Array]:
        """The rule's arrays of the slots, likewise."""

    def take(self, slots: Sequence[int], arrays: Sequence[Array]) -> None:
        """Put in place what was written to `values` and `histories`, in that order."""


class GradientScale(Protocol):
    """The factor on all gradients of this worker's net (float16's loss scale).

    The main thread calls all methods; none waits.
    """

    def watch_gradient(self, slot: int) -> None:
        """Note whether the slot's gradient has overflowed."""

    def watch_factor(self, factor: Array) -> None:
        """The same of a factor, an array of the net's backend."""

    def report(self, then: Callable[[float, bool], None]) -> None:
        """Call ``then`` in the courier's thread; what is noted begins anew.

        With the factor in the gradients at hand and whether one of them overflowed.
        """

    def follow(self, used: float, *, overflowed: bool) -> None:
        """Take what all workers found into account; see `LossScale.follow`."""


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
