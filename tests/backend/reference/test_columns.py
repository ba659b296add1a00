"""im2col and col2im against their definition, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.backend.reference.columns import column_taps

# spatial sizes, geometry
CASES = {
    "plain": ((5, 6), ColumnGeometry((3, 2), (1, 1), (0, 0), (1, 1))),
    "padded": ((5, 4), ColumnGeometry((3, 3), (2, 1), (1, 2), (1, 1))),
    "dilated": ((7, 8), ColumnGeometry((2, 3), (1, 2), (1, 0), (3, 2))),
    "padding_only": ((2, 2), ColumnGeometry((2, 2), (1, 3), (4, 3), (1, 1))),
    "one_axis": ((9,), ColumnGeometry((4,), (2,), (1,), (1,))),
    "three_axes": (
        (3, 4, 3),
        ColumnGeometry((2, 1, 2), (1, 2, 1), (0, 1, 1), (1,) * 3),
    ),
}


def pairs(sizes, g):
    """(kernel offset, window, element) wherever the element is in the image."""
    for tap in np.ndindex(*g.kernel):
        for window in np.ndindex(*g.spatial(sizes)):
            at = tuple(
                s * i + d * k - p
                for s, i, d, k, p in zip(
                    g.stride, window, g.dilation, tap, g.pad, strict=True
                )
            )
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                yield tap, window, at


@pytest.mark.parametrize("channels", [3, 17])
@pytest.mark.parametrize("name", CASES)
def test_columns_and_back(kit, rng, name, channels):
    sizes, g = CASES[name]
    x = rng.standard_normal((3, channels, *sizes))
    top = (3, channels * int(np.prod(g.kernel)), *g.spatial(sizes))
    split = (3, channels, *g.kernel, *g.spatial(sizes))
    want, back = np.zeros(split), np.zeros(x.shape)
    dy = rng.standard_normal(split)
    whole = (slice(None), slice(None))
    for tap, window, at in pairs(sizes, g):
        want[(*whole, *tap, *window)] = x[(*whole, *at)]
        back[(*whole, *at)] += dy[(*whole, *tap, *window)]
    y, dx = kit.empty(top), kit.empty(x.shape)
    kit.ops.im2col(kit.array(x), y.reshape(split), g)
    kit.assert_close(y.reshape(split), want)
    dy = kit.array(dy.reshape(top)).reshape(split)
    kit.ops.col2im(dy, dx, g)
    kit.assert_close(dx, back)


def test_taps_of_some_rows_are_those_of_all():
    sizes, g = CASES["padded"]
    counts = g.spatial(sizes)
    whole = {
        (tap, row)
        for tap, windows, _ in column_taps(g, sizes, counts)
        for row in range(counts[0])[windows[0]]
    }
    rows = {
        (tap, first)
        for first in range(counts[0])
        for tap, _, _ in column_taps(g, sizes, (1, *counts[1:]), first)
    }
    assert rows == whole
