"""A device's memory as blobs see it."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np

from poseidon_caffe.backend.gpu.device import Device
from poseidon_caffe.types import Array

__all__ = ["DeviceMemory"]


class DeviceMemory:
    """`Memory` of a GPU.

    Args:
        device: whose.
    """

    is_host: bool = False

    def __init__(self, device: Device) -> None:
        self._device = device
        self.epoch = 0
        #: How often arrays were made, or blobs took others' memory.
        self.allocations = 0
        self.written: WeakSet[Any] = WeakSet()

    def zeros(self, count: int, dtype: np.dtype | type) -> Array:
        """A 1-D array of zeros on the device.

        Raises:
            MemoryError: the device has no such room.
        """
        self.allocations += count > 0
        return self._device.zeros(count, dtype)

    def clear(self, array: Array) -> None:
        """Set every element to zero; the array's memory lies in one piece."""
        if array.size:
            self._device.clear(array)

    def upload(self, source: Array, target: Array) -> None:
        """Copy a NumPy array to the device."""
        if source.size:
            self._device.upload(source, target)

    def download(self, source: Array, target: Array) -> None:
        """Copy to a NumPy array; waits for the work that computes ``source``."""
        if source.size:
            self._device.download(source, target)

    def limit_bytes(self) -> int:
        """All memory of the device."""
        return self._device.memory_bytes()[1]

    def free_bytes(self) -> int:
        """What is free now."""
        return self._device.memory_bytes()[0]

    def flush(self) -> None:
        """Bring to the device whatever the host has written."""
        for buffer in list(self.written):
            buffer.flush()
        self.written.clear()
