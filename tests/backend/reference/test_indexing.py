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


@pytest.mark.parametrize("width", [1, 300, 9000])
def test_rows_of_any_width_and_places_beyond_a_block(kit, rng, width):
    count = 700 if width < 9000 else 20
    index = rng.integers(0, 5, count)
    x, dy = rng.standard_normal((6, width)), rng.standard_normal((count, width))
    y, dx = kit.empty((count, width)), kit.empty((6, width))
    kit.ops.gather_rows(kit.array(x), index, y)
    np.testing.assert_array_equal(y, x[index].astype(kit.dtype))
    kit.ops.scatter_add_rows(kit.array(dy), index, dx)
    want = np.zeros((6, width))
    np.add.at(want, index, dy)
    kit.assert_close(dx, want, loose=10)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_rows_get_something_added(kit, rng, shape):
    x, plus = rng.standard_normal(shape), rng.standard_normal(shape[1:])
    y, index = kit.empty((4, *shape[1:])), np.array([5, 0, 0, 2])
    kit.ops.gather_rows(kit.array(x), index, y, kit.param(plus))
    kit.assert_close(y, x[index] + plus)
