"""Which kernel copies from one layout to another, and with which numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.gpu.launcher import (
    ANY_STORAGE,
    GRID_BLOCKS,
    THREADS,
    Launcher,
)
from poseidon_caffe.types import Array, Shape

__all__ = ["Axis", "copy_axes", "strided_copy"]

_AXES = 6
_AT_ONCE = 4  # as in copy.cu
_PACK_BYTES = 16
_BUNCH = 4  # numbers that are converted at once
#: A tile of 32 x 32 pays from this length of its shorter side on.
_TILE, _WORTH_TURNING = 32, 16
_MOST_ITEMS = (1 << 31) - 1  # places are counted in 32 bits
_KINDS = {"f4": "float", "f8": "double", "f2": "half", "u2": "bfloat", "u1": "byte"}


class Axis(NamedTuple):
    """One axis of a copy: its length, and items from place to place on each side."""

    length: int
    source: int
    target: int


_NO_AXIS = Axis(1, 0, 0)


def copy_axes(source: Array, target: Array) -> list[Axis]:
    """Axes of a copy from the target's slowest to its fastest, neighbours joined."""
    axes = [
        Axis(length, a // source.itemsize, b // target.itemsize)
        for length, a, b in zip(
            source.shape, source.strides, target.strides, strict=True
        )
        if length > 1
    ]
    axes.sort(key=lambda axis: (-axis.target, -axis.source))
    joined: list[Axis] = []
    for axis in axes:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.source == axis.source * axis.length
            and last.target == axis.target * axis.length
        ):
            joined[-1] = Axis(last.length * axis.length, axis.source, axis.target)
        else:
            joined.append(axis)
    return joined


def strided_copy(kernels: Launcher, source: Array, target: Array) -> None:
    """target = source, of one shape; at least one element.

    Neighbours in both memories move by 16 bytes where they are aligned; what is
    turned around (NCHW to channels-last and back) goes by tiles; numbers of
    different types are converted by fours where they are neighbours.

    Args:
        kernels: of ``copy.cu``.
        source: any strides.
        target: the same type, or one that its type is converted to.
    """
    axes = copy_axes(source, target)
    if source.size > _MOST_ITEMS or len(axes) > _AXES:
        for part in _halves(source.shape):
            strided_copy(kernels, source[part], target[part])
        return
    if source.dtype != target.dtype:
        names = (_KINDS[a.dtype.str[1:]] for a in (source, target))
        kernel = f"convert_{'_'.join(names)}"
        sizes = (source.itemsize * _BUNCH, target.itemsize * _BUNCH)
        if _fits(_BUNCH, sizes, axes, source, target):
            kernel, axes = f"{kernel}_by_4", _bunched(axes, _BUNCH)
        _run(kernels, kernel, source, target, axes)
        return
    item = source.itemsize
    turned = _turned(axes) if item < _PACK_BYTES else None
    if turned is not None:
        _turn(kernels, f"turn_{item}", source, target, *turned)
        return
    size = _PACK_BYTES
    while size > item and not _fits(size // item, (size, size), axes, source, target):
        size //= 2
    _run(kernels, f"copy_{size}", source, target, _bunched(axes, size // item))


def _halves(shape: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Both halves of an array's longest axis."""
    axis = shape.index(max(shape))
    before, middle = (slice(None),) * axis, shape[axis] // 2
    return (*before, slice(None, middle)), (*before, slice(middle, None))


def _fits(
    count: int,
    sizes: tuple[int, int],
    axes: Sequence[Axis],
    source: Array,
    target: Array,
) -> bool:
    """Whether every ``count`` neighbours lie together and aligned on both sides."""
    if not axes or axes[-1].source != 1 or axes[-1].target != 1:
        return False
    return (
        pointer(source) % sizes[0] == 0
        and pointer(target) % sizes[1] == 0
        and axes[-1].length % count == 0
        and all(a.source % count == a.target % count == 0 for a in axes[:-1])
    )


def _bunched(axes: Sequence[Axis], count: int) -> list[Axis]:
    """The same axes in items of ``count`` numbers."""
    if count == 1:
        return list(axes)
    last = axes[-1]
    slower = [Axis(a.length, a.source // count, a.target // count) for a in axes[:-1]]
    return [*slower, Axis(last.length // count, 1, 1)]


def _run(
    kernels: Launcher, kernel: str, source: Array, target: Array, axes: list[Axis]
) -> None:
    count = math.prod(axis.length for axis in axes)
    blocks = min(-(-count // (THREADS * _AT_ONCE)), GRID_BLOCKS)
    kernels.blocks(kernel, ANY_STORAGE, blocks, source, target, count, *_numbers(axes))


def _numbers(axes: Sequence[Axis]) -> list[int]:
    filled = [_NO_AXIS] * (_AXES - len(axes)) + list(axes)
    return [n for part in zip(*filled, strict=True) for n in part]


def _turned(axes: Sequence[Axis]) -> tuple[Axis, Axis, list[Axis]] | None:
    """(source's neighbours, target's neighbours, other axes) of what is turned."""
    fast = [axis for axis in axes if axis.source == 1]
    if len(fast) != 1 or axes[-1].target != 1 or fast[0] is axes[-1]:
        return None
    if min(fast[0].length, axes[-1].length) < _WORTH_TURNING:
        return None
    return fast[0], axes[-1], [axis for axis in axes[:-1] if axis is not fast[0]]


def _turn(
    kernels: Launcher,
    kernel: str,
    source: Array,
    target: Array,
    across: Axis,
    down: Axis,
    others: Sequence[Axis],
) -> None:
    tiles = math.prod(-(-axis.length // _TILE) for axis in (across, down))
    blocks = min(tiles * math.prod(axis.length for axis in others), GRID_BLOCKS)
    kernels.blocks(
        kernel, ANY_STORAGE, blocks, source, target, across.length, down.length,
        down.source, across.target, *_numbers(others),
    )  # fmt: skip
