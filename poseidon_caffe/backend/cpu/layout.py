"""How an array lies in memory: which fast paths may take it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.types import Array, Shape

__all__ = [
    "alike",
    "dense",
    "describable",
    "empty_laid",
    "flat_together",
    "order_of",
    "supported",
]

_FLOAT32 = np.dtype(np.float32)


@lru_cache(maxsize=4096)
def _is_dense(shape: Shape, strides: Shape, itemsize: int) -> bool:
    """Whether elements fill their memory without gaps, in some order of axes."""
    expected = itemsize
    for step, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if step != expected:
            return False
        expected *= size
    return True


def dense(array: Array) -> bool:
    """Whether ``array`` could be seen as one flat piece of float32 memory."""
    return array.dtype == _FLOAT32 and _is_dense(
        array.shape, array.strides, array.itemsize
    )


def alike(*arrays: Array) -> bool:
    """Whether all are dense float32 of one shape, laid out in the same order."""
    first = arrays[0]
    if not dense(first) or not first.size:
        return False
    return all(
        other is first
        or (
            other.dtype == _FLOAT32
            and other.shape == first.shape
            and (
                other.strides == first.strides
                or (dense(other) and _same_order(first, other))
            )
        )
        for other in arrays[1:]
    )


def _same_order(a: Array, b: Array) -> bool:
    """Equal strides but for axes of length 1, whose stride means nothing."""
    return all(
        s == t or n == 1 for n, s, t in zip(a.shape, a.strides, b.strides, strict=True)
    )


def flat_together(*arrays: Array) -> list[Array] | None:
    """Flat views in one order of elements, or None unless all lie alike.

    The arrays have one shape; their dtypes may differ (a mask of bytes beside
    float32), their memory has no gaps.
    """
    first = arrays[0]
    if all(a.flags.c_contiguous for a in arrays):
        return [a.reshape(-1) for a in arrays]
    if not _is_dense(first.shape, first.strides, first.itemsize):
        return None
    for other in arrays[1:]:
        for n, s, t in zip(first.shape, first.strides, other.strides, strict=True):
            if n > 1 and s * other.itemsize != t * first.itemsize:
                return None
    steps = [s if n > 1 else 0 for n, s in zip(first.shape, first.strides, strict=True)]
    order = sorted(range(first.ndim), key=lambda i: -steps[i])
    return [a.transpose(order).reshape(-1) for a in arrays]


def order_of(array: Array) -> Shape:
    """The strides in bytes, 0 for axes of length 1, whose stride means nothing."""
    return tuple(
        0 if n == 1 else step
        for n, step in zip(array.shape, array.strides, strict=True)
    )


def empty_laid(shape: Shape, order: Shape) -> Array:
    """An uninitialised float32 array that lies as a dense one of that `order_of`."""
    raw = empty_array(math.prod(shape))
    return np.lib.stride_tricks.as_strided(raw, shape, order)


def describable(*arrays: Array) -> bool:
    """Whether oneDNN can move the arrays: float32, not empty, 4 or 5 axes."""
    return all(a.dtype == _FLOAT32 and a.size and a.ndim in {4, 5} for a in arrays)


def supported(*arrays: Array) -> bool:
    """Whether oneDNN's fast kernels take the arrays: describable and dense.

    Strided views, such as slices of a Concat, fall to code that is hundreds of
    times slower (convolution) or wrong (max pooling's workspace).
    """
    return describable(*arrays) and all(dense(a) for a in arrays)
