"""How an array lies in memory, in cuDNN's words: dimensions and element strides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from poseidon_caffe.types import Array, Shape

__all__ = [
    "Layout",
    "address_of",
    "common_layout",
    "dense_strides",
    "layouts_of",
    "padded_axes",
]

_MOST_ELEMENTS = 2**31 - 1
_MOST_AXES = 5
_LEAST_AXES = 4


@dataclass(frozen=True)
class Layout:
    """What a tensor descriptor is made from; 4 or 5 axes.

    Attributes:
        dims: (N, C, *spatial).
        strides: in elements, one an axis.
        channels_last: whether the channels of one place lie side by side.
    """

    dims: Shape
    strides: Shape
    channels_last: bool


def address_of(array: Array) -> int:
    """Where an array begins in device memory."""
    memory: Any = array.data
    return int(memory.ptr)


def padded_axes(shape: Shape, fill: int = 1) -> Shape:
    """``shape`` with at least 4 axes: those missing come before the last spatial one.

    (N, C) becomes (N, C, 1, 1) and (N, C, L) becomes (N, C, 1, L), for which cuDNN
    has kernels.
    """
    missing = max(0, _LEAST_AXES - len(shape))
    return (*shape[:2], *[fill] * missing, *shape[2:])


def dense_strides(dims: Shape, *, channels_last: bool) -> Shape:
    """Element strides of an array without gaps."""
    axes = range(len(dims))
    order = [0, *axes[2:], 1] if channels_last else list(axes)
    strides = [1] * len(dims)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= dims[axis]
    return tuple(strides)


def _matches(shape: Shape, strides: Shape, dense: Shape, first: int) -> bool:
    """Whether axes from ``first`` on, but those of length 1, have dense strides."""
    return all(
        n == 1 or s == d
        for n, s, d in zip(shape[first:], strides[first:], dense[first:], strict=True)
    )


def layouts_of(shape: Shape, strides: Shape, itemsize: int) -> tuple[Layout, ...]:
    """Each layout that an array can be described by, plain (NCHW) first.

    Plain arrays may have gaps between images, as slices along the channels have;
    channels-last ones may not: cuDNN's fast kernels want them whole.  An array
    with one channel or one place is both.  Other arrays, and those that 32-bit
    numbers cannot index, are neither.

    Args:
        shape: (N, C, *spatial), 2 to 5 axes.
        strides: in bytes.
        itemsize: bytes of an element.
    """
    if not _describable(shape, strides, itemsize):
        return ()
    steps = tuple(s // itemsize for s in strides)
    dims = padded_axes(shape)
    found = []
    plain = dense_strides(shape, channels_last=False)
    between = steps[0] if shape[0] > 1 else plain[0]
    fits = between >= plain[0] and between * shape[0] <= _MOST_ELEMENTS
    if _matches(shape, steps, plain, 1) and fits:
        whole = dense_strides(dims, channels_last=False)
        found.append(Layout(dims, (between, *whole[1:]), channels_last=False))
    if _matches(shape, steps, dense_strides(shape, channels_last=True), 0):
        whole = dense_strides(dims, channels_last=True)
        found.append(Layout(dims, whole, channels_last=True))
    return tuple(found)


def _describable(shape: Shape, strides: Shape, itemsize: int) -> bool:
    elements = math.prod(shape)
    return (
        2 <= len(shape) <= _MOST_AXES
        and 0 < elements <= _MOST_ELEMENTS
        and all(s >= 0 and s % itemsize == 0 for s in strides)
    )


def common_layout(*arrays: Array) -> tuple[Layout, ...] | None:
    """A layout for each array, all plain or all channels-last; None if there is none.

    Where all arrays can be seen both ways they are taken as plain.
    """
    choices = [layouts_of(a.shape, a.strides, a.itemsize) for a in arrays]
    for channels_last in (False, True):
        found = [
            layout
            for each in choices
            for layout in each
            if layout.channels_last is channels_last
        ]
        if len(found) == len(arrays):
            return tuple(found)
    return None
