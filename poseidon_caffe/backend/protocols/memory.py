"""Where arrays live: this machine's memory, or a device's."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakSet

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["Memory"]


class Memory(Protocol):
    """Gives out arrays, and moves numbers between them and NumPy arrays.

    Attributes:
        is_host: arrays are NumPy arrays that anybody may read and write.
        epoch: counted up whenever work changed arrays that nobody named (a replayed
            graph), so that no copy of any array is fresh.
        allocations: counted up whenever an array was made or a blob was told to use
            another one's memory: recorded work may know older arrays.
        written: buffers whose copy on the host may be newer than the device's.
    """

    is_host: bool
    epoch: int
    allocations: int
    written: WeakSet[Any]

    def zeros(self, count: int, dtype: np.dtype | type) -> Array:
        """A 1-D array of zeros, aligned for every kernel.

        Raises:
            MemoryError: there is not so much memory.
        """

    def clear(self, array: Array) -> None:
        """Set every element to zero; the array's memory lies in one piece."""

    def upload(self, source: Array, target: Array) -> None:
        """Copy a NumPy array to an array of this memory, both flat and of one dtype."""

    def download(self, source: Array, target: Array) -> None:
        """Copy an array of this memory to a NumPy array, flat, of one dtype.

        Waits for the work that computes ``source``.
        """

    def limit_bytes(self) -> int:
        """Bytes that one array can have at most."""

    def free_bytes(self) -> int:
        """Bytes that are free now, as far as anybody knows."""
