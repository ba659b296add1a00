"""What cuDNN's wrappers ask of the device and its own kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from poseidon_caffe.types import Array, Shape

__all__ = ["CudnnDevice", "DeviceBytes"]


class DeviceBytes(Protocol):
    """A piece of device memory, freed when its Python object is.

    Attributes:
        ptr: its address, aligned to 256 bytes.
    """

    ptr: int


class CudnnDevice(Protocol):
    """A GPU whose compute stream cuDNN works on, in turn with other kernels.

    Attributes:
        name: as its maker calls it.
        compute_capability: major and minor, such as (9, 0).
        stream_ptr: address of the compute stream (``cudaStream_t``).
    """

    name: str
    compute_capability: tuple[int, int]
    stream_ptr: int

    def claim(self) -> None:
        """Make this GPU the calling thread's own, as every call of cuDNN wants it."""

    def allocate(self, size: int) -> DeviceBytes:
        """Memory of ``size`` bytes, not initialised.

        Raises:
            MemoryError: the device has no such room.
        """

    def empty(
        self, shape: Shape, dtype: np.dtype | type, *, channels_last: bool
    ) -> Array:
        """An array, not initialised, dense; strides of (N, *spatial, C) if wanted."""

    def cast(self, source: Array, target: Array, *, accumulate: bool = False) -> None:
        """target (+)= source of the same shape, whatever dtypes and strides."""

    def fill(self, array: Array, value: float) -> None:
        """Set every element of a dense array."""

    def scale(self, array: Array, factor: float) -> None:
        """array *= factor, for a dense array."""

    def add_bias(self, y: Array, b: Array | None, slope: float | None) -> None:
        """y = relu?(y + b) in place, b per channel (axis 1) in float32 or float64.

        Args:
            y: (N, C, *spatial), plain or channels-last.
            b: (C,), or None for no bias.
            slope: of negative values; None for no ReLU.
        """

    def bias_gradient(self, dy: Array, db: Array, *, accumulate: bool) -> None:
        """db (+)= dy summed over all axes but 1, in a fixed order."""

    def measure(self, work: Callable[[], None]) -> float:
        """Milliseconds that the stream takes for ``work``, after what is before it."""
