"""This machine's own memory, and the buffers that blobs keep their numbers in."""

from __future__ import annotations

import math
import os
import resource
import sys
import weakref
from typing import Any

import numpy as np

from poseidon_caffe.backend.half import host_dtype, is_half, narrow, widen
from poseidon_caffe.backend.protocols import Memory
from poseidon_caffe.types import Array, Shape

__all__ = [
    "HOST",
    "Buffer",
    "DeviceBuffer",
    "HostMemory",
    "NoRoomError",
    "empty_array",
    "make_buffer",
    "memory_limit",
    "view_of",
]

_ALIGN_BYTES = 64


def empty_array(count: int, dtype: np.dtype | type = np.float32) -> Array:
    """An uninitialised 1-D NumPy array of ``count`` elements, aligned to 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.empty(count * dtype.itemsize + _ALIGN_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGN_BYTES
    return raw[start : start + count * dtype.itemsize].view(dtype)


def memory_limit() -> int:
    """Bytes that one NumPy array can have at most.

    This machine's memory, or the limit that the process runs under (``ulimit -v``)
    if that is less.
    """
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limit <= 0:
        limit = sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit if soft == resource.RLIM_INFINITY else min(limit, soft)


class NoRoomError(MemoryError):
    """A device's memory is not enough.

    Attributes:
        wanted_bytes: what was asked for.
        free_bytes: what there was.
        total_bytes: what the device has.
    """

    def __init__(self, wanted_bytes: int, free_bytes: int, total_bytes: int) -> None:
        self.wanted_bytes, self.free_bytes = wanted_bytes, free_bytes
        self.total_bytes = total_bytes
        super().__init__(
            f"{wanted_bytes} bytes wanted, {free_bytes} of {total_bytes} free"
        )


class HostMemory:
    """NumPy arrays."""

    is_host: bool = True
    epoch: int = 0
    allocations: int = 0

    def __init__(self) -> None:
        self.written: weakref.WeakSet[Any] = weakref.WeakSet()

    def zeros(self, count: int, dtype: np.dtype | type) -> Array:
        """A 1-D array of zeros; pages that nobody has touched cost nothing.

        Raises:
            MemoryError: there is not so much memory.
        """
        dtype = np.dtype(dtype)
        # The system may grant what it cannot keep, and kill the process later.
        if count * dtype.itemsize > memory_limit():
            raise MemoryError(
                f"{count} elements need {count * dtype.itemsize / 2**30:.1f} "
                f"GiB, and this machine has {memory_limit() / 2**30:.1f} GiB"
            )
        raw = np.zeros(count + _ALIGN_BYTES // dtype.itemsize, dtype)
        start = (-raw.ctypes.data % _ALIGN_BYTES) // dtype.itemsize
        return raw[start : start + count]

    def clear(self, array: Array) -> None:
        """Set every element to zero."""
        array[...] = 0

    def upload(self, source: Array, target: Array) -> None:
        """Copy ``source`` to ``target``."""
        np.copyto(target, source)

    def download(self, source: Array, target: Array) -> None:
        """Copy ``source`` to ``target``."""
        np.copyto(target, source)

    def limit_bytes(self) -> int:
        """Bytes that one array can have at most."""
        return memory_limit()

    def free_bytes(self) -> int:
        """The same: nobody knows what the system would give."""
        return memory_limit()


HOST = HostMemory()


def view_of(raw: Array, shape: Shape, *, channels_last: bool) -> Array:
    """See the first elements of a 1-D array as ``shape``.

    Channels-last memory of shape (N, C, *spatial) stores (N, *spatial, C); the
    returned view has its axes in Caffe's order again.
    """
    count = math.prod(shape)
    if not channels_last:
        return raw[:count].reshape(shape)
    stored = raw[:count].reshape((shape[0], *shape[2:], shape[1]))
    return stored.transpose((0, len(shape) - 1, *range(1, len(shape) - 1)))


class Buffer:
    """Memory that grows and never shrinks; ``generation`` counts reallocations.

    Fresh memory is zero.
    """

    __slots__ = ("__weakref__", "dtype", "generation", "memory", "raw")

    def __init__(
        self,
        dtype: np.dtype | type = np.float32,
        raw: Array | None = None,
        memory: Memory = HOST,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.memory = memory
        self.raw: Array = memory.zeros(0, self.dtype) if raw is None else raw
        self.generation = 0

    def reserve(self, count: int) -> None:
        """Make room for ``count`` elements; contents are lost when it grows.

        Raises:
            MemoryError: there is not so much memory.
        """
        if self.raw.size < count:
            self.raw = self.memory.zeros(count, self.dtype)
            self.generation += 1

    def move(self, raw: Array) -> None:
        """Use ``raw`` from now on, which somebody else holds; contents are its own."""
        self.raw = raw
        self.generation += 1
        self.memory.allocations += 1

    def view(self, shape: Shape, *, channels_last: bool) -> Array:
        """The first elements as ``shape``; grows the buffer when needed."""
        self.reserve(math.prod(shape))
        return view_of(self.raw, shape, channels_last=channels_last)

    def to_device(self) -> None:
        """Let kernels see what was written on the host; they may write from now on."""

    def to_host(self, count: int, *, write: bool) -> Array:
        """The first ``count`` elements as a flat NumPy array.

        Args:
            count: elements, at most the buffer's.
            write: the caller will write into it (before the next `to_device`).
        """
        self.reserve(count)
        return self.raw[:count]


class DeviceBuffer(Buffer):
    """Memory of a device with a copy on the host, made when somebody looks.

    Caffe's SyncedMemory: the newer of the two is told from who asked last.  The
    host's copy stays where it is while the buffer does not grow, so views of it
    show new numbers once they are asked for again.  Floats of 16 bits have a copy in
    float32, which they are rounded from when the host has written it.
    """

    __slots__ = ("_epoch", "_fresh", "_host", "_written")

    def __init__(
        self, dtype: np.dtype | type, memory: Memory, raw: Array | None = None
    ) -> None:
        super().__init__(dtype, raw, memory)
        self._host: Array | None = None
        self._fresh = False  # the host's copy holds what the device does
        self._epoch = 0
        self._written = 0  # elements that the host may have changed

    def move(self, raw: Array) -> None:
        """Use ``raw`` from now on; what the host wrote and nobody took is lost."""
        super().move(raw)
        self._host, self._fresh, self._written = None, False, 0

    def reserve(self, count: int) -> None:
        """Make room for ``count`` elements; contents are lost when it grows."""
        if self.raw.size < count:
            super().reserve(count)
            self._host, self._fresh, self._written = None, False, 0

    def to_device(self) -> None:
        """Let kernels see what was written on the host; they may write from now on."""
        if self._written:
            self.flush()
        self._fresh = False

    def flush(self) -> None:
        """Bring what the host wrote to the device, which may be read from now on."""
        if self._written and self._host is not None:
            count, self._written = self._written, 0
            source = self._host[:count]
            if is_half(self.dtype):
                source = empty_array(count, self.dtype)
                narrow(self._host[:count], source)
            self.memory.upload(source, self.raw[:count])

    def to_host(self, count: int, *, write: bool) -> Array:
        """The first ``count`` elements as a flat NumPy array; see `Buffer.to_host`."""
        self.reserve(count)
        if self._host is None:
            self._host = empty_array(self.raw.size, host_dtype(self.dtype))
            self._fresh = False
        if not self._written and not (self._fresh and self._epoch == self.memory.epoch):
            self._download(self._host)
            self._fresh, self._epoch = True, self.memory.epoch
        if write:
            self._written = max(self._written, count)
            self.memory.written.add(self)
        return self._host[:count]

    def _download(self, host: Array) -> None:
        if is_half(self.dtype):
            stored = empty_array(self.raw.size, self.dtype)
            self.memory.download(self.raw, stored)
            widen(stored, host)
        else:
            self.memory.download(self.raw, host)


def make_buffer(dtype: np.dtype | type, memory: Memory) -> Buffer:
    """A buffer of the kind that ``memory`` needs."""
    return Buffer(dtype) if memory.is_host else DeviceBuffer(dtype, memory)
