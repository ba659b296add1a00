from __future__ import annotations

import numpy as np
import pytest

SHAPES = [(6, 3), (6,), (6, 2, 3), (6, 3, 4, 5), (6, 1, 2, 2), (6, 3, 2, 2, 2)]
INDICES = [[0, 5, 2], [1, 1, 1, 4, 1, 0, 4], [3], [], [5, 4, 3, 2, 1, 0] * 9]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_gathered(kit, rng, shape, index):
    x = rng.standard_normal(shape)
    y = kit.empty((len(index), *shape[1:]))
    kit.ops.gather_rows(kit.array(x), np.array(index, np.int64), y)
    want = [x[i] for i in index]
    np.testing.assert_array_equal(y, np.array(want, kit.dtype).reshape(y.shape))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_added_up(kit, rng, shape, index, accumulate):
    dy = rng.standard_normal((len(index), *shape[1:]))
    start = rng.standard_normal(shape)
    want = start.copy() if accumulate else np.zeros(shape)
    for i, row in zip(index, dy, strict=True):
        want[i] += row
    dx = kit.array(start) if accumulate else kit.empty(shape)
    kit.ops.scatter_add_rows(
        kit.array(dy), np.array(index, np.int64), dx, accumulate=accumulate
    )
    kit.assert_close(dx, want, loose=4)


def test_arrays_may_lie_differently(kit, rng):
    x, dy = rng.standard_normal((4, 3, 2, 5)), rng.standard_normal((3, 3, 2, 5))
    index = np.array([3, 0, 3])
    y = np.full((3, 3, 2, 5), np.nan, kit.dtype)
    kit.ops.gather_rows(kit.array(x), index, y)
    np.testing.assert_array_equal(y, x[index].astype(kit.dtype))
    wide = np.zeros((4, 6, 2, 5), kit.dtype)
    kit.ops.scatter_add_rows(kit.array(dy), index, wide[:, 1:4])
    want = np.zeros((4, 6, 2, 5))
    want[0, 1:4], want[3, 1:4] = dy[1], dy[0] + dy[2]
    kit.assert_close(wide, want)


def test_no_rows_at_all(kit):
    index = np.zeros(0, np.int64)
    kit.ops.gather_rows(kit.empty((0, 3)), index, kit.empty((0, 3)))
    kit.ops.scatter_add_rows(kit.empty((0, 3)), index, kit.empty((0, 3)))
