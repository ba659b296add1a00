"""Differences of so much that it goes piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.conftest import summed
from tests.backend.cpu.conftest import stored, unset


@pytest.mark.parametrize("last", [True, False])
def test_squared_difference(ops, slow, rng, last):
    shape = (8, 30, 50, 61)
    a, b = (stored(rng.standard_normal(shape)) for _ in range(2))
    if not last:
        b = np.ascontiguousarray(b)
    y, want = unset(shape), np.empty(shape)
    total, count = summed(ops.squared_difference, a, b, y)
    doubles = a.astype(float), b.astype(float)
    assert total == pytest.approx(
        summed(slow.squared_difference, *doubles, want)[0], rel=1e-6
    )
    assert count == y.size
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-7)


def test_rows(ops, slow, rng):
    a, b = rng.standard_normal((2, 2100, 300)).astype(np.float32)
    factor = rng.standard_normal(2100).astype(np.float32)
    squares, want = np.empty(2100, np.float32), np.empty(2100)
    ops.row_distances(a, b, squares)
    slow.row_distances(a.astype(float), b.astype(float), want)
    np.testing.assert_allclose(squares, want, rtol=1e-5)
    da, db = np.empty_like(a), np.empty_like(a)
    ops.pull_rows(a, b, factor, da, db)
    np.testing.assert_array_equal(da, (a - b) * factor[:, None])
    np.testing.assert_array_equal(db, -da)
