"""What the GPU backend asks of a device: CuPy's, or the emulator's for tests.

Arrays of a device are ``cupy.ndarray``, or the emulator's ``DeviceArray``, which
offers no more than what this backend may use: shape, dtype, strides, size,
``flags.c_contiguous``, ``data.ptr``, and views by ``reshape``, ``transpose``, slices
and ``view``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from poseidon_caffe.backend.half import BFLOAT16
from poseidon_caffe.types import Array

__all__ = [
    "BFLOAT16",
    "Argument",
    "CopyCounter",
    "Device",
    "Event",
    "Graph",
    "Operand",
    "Stream",
    "pointer",
    "storage_of",
]

Argument: TypeAlias = Array | int | float | None
"""Of a kernel: a pointer (None is null), a ``long long`` or a ``double``."""

Dim3: TypeAlias = tuple[int, int, int]


def storage_of(dtype: np.dtype) -> str:
    """The C++ type that kernels store elements of ``dtype`` in."""
    if dtype == BFLOAT16:
        return "bfloat16"
    return {"f4": "float", "f8": "double", "f2": "half16"}[np.dtype(dtype).str[1:]]


def pointer(array: Any) -> int:
    """The address of a device array's first element."""
    return int(array.data.ptr)


@dataclass
class CopyCounter:
    """Copies between host and device so far.

    Attributes:
        to_device, to_host: how many.
        to_device_bytes, to_host_bytes: how much.
    """

    to_device: int = 0
    to_host: int = 0
    to_device_bytes: int = 0
    to_host_bytes: int = 0


@dataclass(frozen=True)
class Operand:
    """A matrix of a product, or a batch of them, in row-major memory.

    Attributes:
        array: whose first element is the first matrix's.
        stride: elements from row to row.
        step: elements from matrix to matrix of a batch.
        transposed: rows are what memory has as columns.
    """

    array: Array
    stride: int
    step: int = 0
    transposed: bool = False


class Event(Protocol):
    """A point in a stream's work, for any thread."""

    def done(self) -> bool:
        """Whether everything before it has been done; returns at once."""

    def wait(self) -> None:
        """Return once everything before it has been done."""


class Stream(Protocol):
    """Work in order, beside the work of other streams."""

    def record(self) -> Event:
        """The point after everything given to this stream so far."""

    def wait_for(self, event: Event) -> None:
        """Let what is given from now on begin after ``event``; returns at once."""

    def upload(self, source: Array, target: Array) -> None:
        """Copy a pinned NumPy array to the device, in turn; returns at once."""

    def download(self, source: Array, target: Array) -> None:
        """Copy to a pinned NumPy array, in turn; returns at once."""

    def copy(self, source: Array, target: Array) -> None:
        """Copy within the device, in turn; both contiguous, of one size."""


class Graph(Protocol):
    """Recorded work, started by one call."""

    def launch(self) -> None:
        """Do all of it again, in turn on the compute stream."""


class Device(Protocol):
    """One GPU, its compute stream and its libraries.

    Attributes:
        index: number of the GPU.
        name: as its maker calls it.
        copies: all copies between host and device.
    """

    index: int
    name: str
    copies: CopyCounter

    @property
    def compute(self) -> Stream:
        """The stream that kernels run on."""

    def zeros(self, count: int, dtype: np.dtype | type) -> Array:
        """A 1-D array of zeros, aligned to 256 bytes.

        Raises:
            MemoryError: the device has no such room.
        """

    def clear(self, array: Array) -> None:
        """Set every byte to zero, in turn; the memory lies in one piece."""

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros that streams can copy from and to by themselves."""

    def upload(self, source: Array, target: Array) -> None:
        """Copy any NumPy array to the device, in turn; ``source`` is free at once."""

    def download(self, source: Array, target: Array) -> None:
        """Copy to any NumPy array once the work before is done; returns then."""

    def launch(
        self,
        source: str,
        kernel: str,
        storage: str,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Argument],
    ) -> None:
        """Run a kernel of ``kernels/<source>.cu``, compiled for a storage type."""

    def gemm(  # noqa: PLR0917 - BLAS's own order
        self,
        m: int,
        n: int,
        k: int,
        alpha: float,
        a: Operand,
        b: Operand,
        beta: float,
        c: Operand,
        batch: int = 1,
    ) -> None:
        """c (m, n) = alpha a (m, k) b (k, n) + beta c, for each of a batch."""

    def stream(self) -> Stream:
        """A further stream."""

    def synchronise(self) -> None:
        """Return once all work given so far is done."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` gives to the compute stream, without doing it."""

    def memory_bytes(self) -> tuple[int, int]:
        """(free, total) of the device."""
