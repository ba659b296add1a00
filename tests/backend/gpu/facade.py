"""The GPU backend seen as one that takes NumPy arrays, so that one test serves all.

Every call uploads the memory that its arguments are views of, runs on the device, and
downloads all of it again: strides, overlaps and untouched elements included.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np

_MAKERS = {"convolution", "pooling", "lrn", "batch_norm", "lstm", "rnn"}
_SEGMENT = ("data", "diff", "history", "local_rate", "decay", "l1", "scale")


class HostFacade:
    """An object of the GPU backend (its Ops, a kernel) for NumPy arrays."""

    def __init__(self, inner: Any, ops: Any) -> None:
        self.inner, self._ops = inner, ops

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found
        if name in _MAKERS:
            return lambda *args, **options: HostFacade(
                found(*args, **options), self._ops
            )
        return lambda *args, **options: _Call(self._ops).run(found, args, options)


class _Call:
    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self._roots: dict[int, tuple[np.ndarray, Any]] = {}

    def run(self, function: Any, args: Any, options: Any) -> Any:
        found = function(
            *[self._there(a) for a in args],
            **{name: self._there(a) for name, a in options.items()},
        )
        for root, twin in self._roots.values():
            if root.flags.writeable:
                back = np.empty(root.nbytes, np.uint8)
                self._ops.memory.download(twin, back)
                _bytes_of(root)[...] = back
        return self._back(found)

    def _there(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._device_view(value)
        if isinstance(value, list | tuple):
            return type(value)(self._there(part) for part in value)
        if all(hasattr(value, name) for name in _SEGMENT):
            parts = {name: self._there(getattr(value, name)) for name in _SEGMENT}
            if dataclasses.is_dataclass(value):
                return dataclasses.replace(value, **parts)
            return SimpleNamespace(**parts)
        return value

    def _device_view(self, array: np.ndarray) -> Any:
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if id(root) not in self._roots:
            twin = self._ops.memory.zeros(root.nbytes, np.uint8)
            self._ops.memory.upload(_bytes_of(root), twin)
            self._roots[id(root)] = (root, twin)
        twin = self._roots[id(root)][1]
        return strided(twin, array, array.ctypes.data - root.ctypes.data)

    def _back(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._back(part) for part in value)
        if hasattr(value, "data") and not isinstance(value, np.generic | np.ndarray):
            out = np.empty(value.shape, value.dtype)
            self._ops.memory.download(value, out)
            return tuple(out.tolist()) if out.size > 1 else float(out.reshape(-1)[0])
        return value


def _bytes_of(root: np.ndarray) -> np.ndarray:
    """The memory of an array that owns it."""
    if root.size == 0:
        return np.empty(0, np.uint8)
    if not root.flags.c_contiguous:
        order = sorted(range(root.ndim), key=lambda i: -root.strides[i])
        root = root.transpose(order)
        assert root.flags.c_contiguous
    return root.reshape(-1).view(np.uint8)


def strided(memory: Any, like: np.ndarray, offset_bytes: int) -> Any:
    """Device memory seen with the shape, type and strides of a NumPy array."""
    if type(memory).__module__.startswith("cupy"):
        import cupy

        return cupy.ndarray(
            like.shape, like.dtype, memory.data + offset_bytes, like.strides
        )
    from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view

    if like.size == 0:
        return DeviceArray(np.empty(like.shape, like.dtype))
    held = host_view(memory)
    return DeviceArray(
        np.ndarray(like.shape, like.dtype, held, offset_bytes, like.strides)
    )
