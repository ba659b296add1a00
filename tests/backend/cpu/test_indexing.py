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
