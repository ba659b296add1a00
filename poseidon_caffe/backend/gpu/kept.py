"""What a kernel's forward keeps for its backward: a number an element of an image."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.image_planes import GpuImagePlanes, ImagePlanes
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["Kept"]


class Kept:
    """A number for each output, kept in device memory from forward to backward.

    Args:
        ops: the memory.
        count: of outputs.
        dtype: of the numbers.

    Attributes:
        array: flat; None before the first forward.
        channels_last: whether it is in the order (N, H, W, C), or else (N, C, H, W).
    """

    def __init__(self, ops: GpuImagePlanes, count: int, dtype: np.dtype | type) -> None:
        self._ops, self._count, self._dtype = ops, count, np.dtype(dtype)
        self.array: Array | None = None
        self.channels_last = False

    def written(self, top: ImagePlanes) -> Array:
        """The memory, for a forward that writes a top as it lies."""
        array = self.plain()
        self.channels_last = top.channels_last
        return array

    def plain(self) -> Array:
        """The memory, for numbers in the order (N, C, H, W)."""
        self.channels_last = False
        if self.array is None:
            self.array = self._ops.memory.zeros(self._count, self._dtype)
        return self.array

    def read(self, problem: str) -> Array:
        """What forward wrote.

        Raises:
            BackendError: ``problem``, if there was no forward.
        """
        if self.array is None:
            raise BackendError(problem)
        return self.array
