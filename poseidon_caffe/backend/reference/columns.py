"""Windows of an image laid out as columns, and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.backend.reference.windows import Windows
from poseidon_caffe.types import Array, Shape

__all__ = ["ReferenceColumns", "add_columns", "column_taps", "copy_columns"]


@lru_cache(maxsize=1024)
def column_taps(
    geometry: ColumnGeometry, sizes: Shape, counts: Shape, first: int = 0
) -> tuple[tuple[Shape, tuple[slice, ...], tuple[slice, ...]], ...]:
    """(offset in the kernel, windows, elements) for every offset that meets the image.

    Args:
        geometry: the windows.
        sizes: lengths of the image's spatial axes.
        counts: numbers of windows along them.
        first: which window along the first axis is the first of those asked for.
    """
    per_axis: list[list[tuple[int, slice, slice]]] = []
    for axis, kernel in enumerate(geometry.kernel):
        stride = geometry.stride[axis]
        start = geometry.pad[axis] - (first * stride if axis == 0 else 0)
        found = []
        for k in range(kernel):
            pad = start - k * geometry.dilation[axis]
            alone = Windows(sizes[axis], counts[axis], 1, stride, pad)
            found += [(k, windows, elements) for _, windows, elements in alone.taps()]
        per_axis.append(found)
    return tuple(
        (
            tuple(offset for offset, _, _ in taps),
            tuple(windows for _, windows, _ in taps),
            tuple(elements for _, _, elements in taps),
        )
        for taps in itertools.product(*per_axis)
    )


def _all_taps(
    x: Array, columns: Array, geometry: ColumnGeometry, first: int
) -> Iterator[tuple[Any, Any]]:
    """Index of ``columns`` and of ``x`` for every tap."""
    both = (slice(None), slice(None))
    counts = columns.shape[2 + len(geometry.kernel) :]
    for tap, windows, elements in column_taps(geometry, x.shape[2:], counts, first):
        yield (*both, *tap, *windows), (*both, *elements)


def copy_columns(
    x: Array, columns: Array, geometry: ColumnGeometry, first: int = 0
) -> None:
    """Fill what of ``columns`` lies inside the image.

    Their first window along the first axis is the image's window ``first``.
    """
    for there, here in _all_taps(x, columns, geometry, first):
        columns[there] = x[here]


def add_columns(
    columns: Array, x: Array, geometry: ColumnGeometry, first: int = 0
) -> None:
    """Add to ``x`` what `copy_columns` takes from it."""
    for there, here in _all_taps(x, columns, geometry, first):
        x[here] += columns[there]


class ReferenceColumns:
    """`ColumnOps` in NumPy, one offset of the kernel after another."""

    def im2col(self, x: Array, columns: Array, geometry: ColumnGeometry) -> None:
        """Fill ``columns`` from ``x``."""
        if geometry.overhangs(x.shape[2:]):
            columns[...] = 0
        copy_columns(x, columns, geometry)

    def col2im(self, columns: Array, x: Array, geometry: ColumnGeometry) -> None:
        """x = the sum of every column entry that `im2col` took from it."""
        x[...] = 0
        add_columns(columns, x, geometry)
