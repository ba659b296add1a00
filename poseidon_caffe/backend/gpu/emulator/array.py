"""DeviceArray: stands in for ``cupy.ndarray`` where there is no GPU.

It offers no more than what the backend may use, and neither numbers nor arithmetic:
code that touches device memory otherwise than by kernels and counted copies fails here,
as it would be slow (or fail) on a GPU.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any, NoReturn, TypeAlias

import numpy as np

from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["DeviceArray", "host_view"]

_Index: TypeAlias = int | slice | EllipsisType | None


class _Pointer:
    """The place of the first element, as CuPy's ``MemoryPointer`` tells it."""

    __slots__ = ("ptr",)

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class DeviceArray:
    """A view of emulated device memory; made by the emulator only."""

    __slots__ = ("_memory",)

    def __init__(self, memory: Array) -> None:
        self._memory = memory

    @property
    def shape(self) -> Shape:
        """Axis lengths."""
        return self._memory.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of an element."""
        return self._memory.dtype

    @property
    def strides(self) -> Shape:
        """Bytes from element to element along each axis."""
        return self._memory.strides

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._memory.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._memory.size

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._memory.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._memory.itemsize

    @property
    def flags(self) -> Any:
        """``c_contiguous`` and its like."""
        return self._memory.flags

    @property
    def data(self) -> _Pointer:
        """Where the first element lies: ``data.ptr``."""
        return _Pointer(self._memory.ctypes.data)

    @property
    def T(self) -> DeviceArray:  # noqa: N802 - NumPy's name
        """All axes in reverse order."""
        return DeviceArray(self._memory.T)

    def __len__(self) -> int:
        return len(self._memory)

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same memory under another shape; BackendError if that needs a copy."""
        wanted: Any = shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape
        seen = self._memory.reshape(wanted)
        if self.size and not np.may_share_memory(seen, self._memory):
            raise BackendError(
                f"a device array of shape {self.shape} and strides {self.strides} "
                f"cannot be seen as {wanted} without a copy: use ops.copy"
            )
        return DeviceArray(seen)

    def transpose(self, *axes: Any) -> DeviceArray:
        """The axes in another order."""
        return DeviceArray(self._memory.transpose(*axes))

    def view(self, dtype: Any) -> DeviceArray:
        """The same bytes as elements of another type."""
        return DeviceArray(self._memory.view(dtype))

    def __getitem__(self, index: _Index | tuple[_Index, ...]) -> DeviceArray:
        parts = index if isinstance(index, tuple) else (index,)
        allowed = (int, np.integer, slice, EllipsisType, type(None))
        if not all(isinstance(part, allowed) for part in parts):
            raise BackendError(f"a device array is not indexed by {index!r}")
        if Ellipsis not in parts:
            parts = (*parts, Ellipsis)  # a view, also of a single element
        return DeviceArray(self._memory[parts])

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise BackendError("device memory is written by kernels and uploads only")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a device array is no NumPy array: use memory.download")

    def __float__(self) -> NoReturn:
        raise TypeError("a device array is no number: use memory.download")

    __int__ = __index__ = __bool__ = __float__

    def __repr__(self) -> str:
        return f"<device array {self.shape} {self.dtype}>"


DeviceArray.__array_ufunc__ = None  # type: ignore[attr-defined]


def host_view(array: Any) -> Array:
    """The emulated memory itself, for the emulator alone."""
    memory: Array = array._memory  # noqa: SLF001
    return memory
