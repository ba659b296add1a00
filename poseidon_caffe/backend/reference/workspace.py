"""Scratch memory that the reference kernels of one backend share."""

from __future__ import annotations

import math
import threading

import numpy as np

from poseidon_caffe.types import Array, Shape

__all__ = ["Workspace", "same_memory"]


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are the very same elements."""
    return a is b or (
        a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides
    )


class Workspace(threading.local):
    """Named scratch arrays that grow and are used again; one set per thread.

    Fresh memory costs page faults each time, which for the columns of a
    convolution would be as dear as the product itself.
    """

    def __init__(self) -> None:
        self._raw: dict[tuple[str, np.dtype], Array] = {}

    def take(self, name: str, shape: Shape, dtype: np.dtype) -> Array:
        """An uninitialised C-order array, valid until ``name`` is taken again."""
        count = math.prod(shape)
        raw = self._raw.get((name, dtype))
        if raw is None or raw.size < count:
            raw = self._raw[name, dtype] = np.empty(count, dtype)
        return raw[:count].reshape(shape)
