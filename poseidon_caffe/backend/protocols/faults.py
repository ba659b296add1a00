"""Numbers in data that must be classes or rows, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from poseidon_caffe.errors import PoseidonError
from poseidon_caffe.types import Array

__all__ = ["FaultOps", "NumberCheck", "NumberError"]

NumberError: TypeAlias = Callable[[float, int, int], PoseidonError]
"""Makes the error for a bad number: its value, its position, how many are allowed."""


class NumberCheck(Protocol):
    """Looks for numbers out of range, each time that a layer runs."""

    def run(self, values: Array, count: int, index: Array | None = None) -> None:
        """The whole parts of ``values`` must be 0..count-1, or the ignored number.

        Args:
            values: floats of any shape and layout; positions are in C order.
            count: how many numbers are allowed.
            index: int64 (values.size,), C order; gets the whole parts.  On a GPU those
                of bad and ignored numbers become -1.

        Raises:
            PoseidonError: a number is out of range, or NaN.  A GPU notes the first
                instead, for `FaultOps.raise_faults`.
        """


class FaultOps(Protocol):
    """Checks whose kernels the host does not wait for."""

    def number_check(
        self,
        error: NumberError,
        *,
        ignored: int | None = None,
        negative_fractions: bool = True,
    ) -> NumberCheck:
        """A check for one layer, which keeps it.

        Args:
            error: makes the error; called for a fault only.
            ignored: a number that is allowed too.
            negative_fractions: whether -0.5 counts as 0.
        """

    def raise_faults(self) -> None:
        """Raise the error of a fault that a GPU has noted, and forget it.

        Waits for the work given so far, if there are any checks at all.

        Raises:
            PoseidonError: a check has found a number out of range.
        """
