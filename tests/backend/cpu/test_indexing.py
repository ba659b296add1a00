from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("rows", "width", "count"),
    [
        (10000, 8, 1280),  # hardly any index twice
        (200, 8, 20000),  # often, and in several blocks
        (100, 300, 400),  # wide rows, one by one
        (10, 64, 4096),  # few indices: a matrix product
        (5000, 1, 100000),
        (700, 1024, 1100),  # middling rows, in several blocks
        (40, 100, 9000),  # many for each
        (40, 5000, 300),  # rows that stay in the cache, on two threads
        (900, 4096, 20),  # most rows get nothing
        (1, 5000, 3),
    ],
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_every_way_of_adding_up_agrees(ops, slow, rng, rows, width, count, accumulate):
    index = rng.integers(0, rows, count)
    dy = rng.standard_normal((count, width)).astype(np.float32)
    start = rng.standard_normal((rows, width))
    want, got = start.copy(), start.astype(np.float32)
    slow.scatter_add_rows(dy.astype(np.float64), index, want, accumulate=accumulate)
    ops.scatter_add_rows(dy, index, got, accumulate=accumulate)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_one_index_very_often(ops, rng):
    index = np.zeros(5000, np.int64)
    index[-1] = 3
    dy = rng.standard_normal((5000, 40)).astype(np.float32)
    dx = np.full((7, 40), np.nan, np.float32)
    ops.scatter_add_rows(dy, index, dx)
    np.testing.assert_allclose(dx[0], dy[:-1].sum(0, np.float64), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(dx[3], dy[-1])
    assert (dx[[1, 2, 4, 5, 6]] == 0).all()


@pytest.mark.parametrize("width", [70, 6000])
def test_places_at_the_ends_get_nothing(ops, rng, width):
    """Places before the first one that is named, and after the last one."""
    index = np.array([5, 3, 5, 400, 3, 5])
    dy = rng.standard_normal((6, width)).astype(np.float32)
    dx = np.full((600, width), np.nan, np.float32)
    ops.scatter_add_rows(dy, index, dx)
    want = np.zeros(dx.shape)
    np.add.at(want, index, dy)
    np.testing.assert_allclose(dx, want, rtol=1e-5, atol=1e-5)
    before = dx.copy()
    ops.scatter_add_rows(dy, index, dx, accumulate=True)
    np.testing.assert_allclose(dx, before + want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("count", "width"), [(5, 3), (3000, 300), (1, 1), (0, 4)])
def test_rows_and_one_more(ops, rng, count, width):
    x = rng.standard_normal((50, width)).astype(np.float32)
    plus = rng.standard_normal(width).astype(np.float32)
    index = rng.integers(0, 50, count)
    y = np.full((count, width), np.nan, np.float32)
    ops.gather_rows(x, index, y, plus)
    np.testing.assert_array_equal(y, x[index] + plus)
    ops.gather_rows(x.T.copy().T, index, y, plus)
    np.testing.assert_array_equal(y, x[index] + plus)
