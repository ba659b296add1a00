"""The GPU backend's own kernels and memory, as cuDNN's wrappers ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.memory import view_of
from poseidon_caffe.types import Array, Shape

if TYPE_CHECKING:
    from poseidon_caffe.backend.gpu.ops import GpuOps

__all__ = ["OpsSide", "Piece"]


class Piece:
    """Device memory, held.

    Attributes:
        ptr: its address.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        self.ptr = pointer(array)


class OpsSide:
    """`CudnnDevice` over the GPU backend.

    Args:
        ops: the backend.
        device: its CUDA device, which knows its stream and how to time it.
    """

    def __init__(self, ops: GpuOps, device: Any) -> None:
        self._ops, self._device = ops, device
        self.name: str = device.name
        self.compute_capability: tuple[int, int] = device.compute_capability
        self.stream_ptr: int = device.stream_ptr

    def claim(self) -> None:
        """Make this GPU the calling thread's own."""
        self._device.claim()

    def allocate(self, size: int) -> Piece:
        """Memory of ``size`` bytes."""
        return Piece(self._ops.memory.zeros(size, np.uint8))

    def empty(
        self, shape: Shape, dtype: np.dtype | type, *, channels_last: bool
    ) -> Array:
        """A dense array."""
        count = int(np.prod(shape, dtype=np.int64))
        raw = self._ops.memory.zeros(count, dtype)
        return view_of(raw, shape, channels_last=channels_last and len(shape) > 2)

    def cast(self, source: Array, target: Array, *, accumulate: bool = False) -> None:
        """target (+)= source, whatever dtypes and strides."""
        ops = self._ops
        if not accumulate:
            ops.copy(source, target)
            return
        twin = ops.scratch.take("cudnn cast", target.shape, target.dtype)
        ops.copy(source, twin)
        ops.add([target, twin], target, [1.0, 1.0])

    def fill(self, array: Array, value: float) -> None:
        """Set every element of a dense array."""
        if value == 0:
            self._ops.memory.clear(array)
        else:
            self._ops.kernels("blas").each(
                "fill", array.dtype, array.size, array, array.size, value
            )

    def scale(self, array: Array, factor: float) -> None:
        """array *= factor, for a dense array."""
        self._ops.kernels("blas").each(
            "scale", array.dtype, array.size, array, array.size, factor
        )

    def add_bias(self, y: Array, b: Array | None, slope: float | None) -> None:
        """y = relu?(y + b) in place."""
        self._ops.add_bias(y, b, slope)

    def bias_gradient(self, dy: Array, db: Array, *, accumulate: bool) -> None:
        """db (+)= dy summed over all axes but 1."""
        self._ops.bias_gradient(dy, db, accumulate=accumulate)

    def measure(self, work: Callable[[], None]) -> float:
        """Milliseconds that the stream takes for ``work``."""
        return float(self._device.measure(work))
