"""Differences of two arrays, in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.conftest import summed


@pytest.mark.parametrize("shape", [(6,), (5, 4), (2, 3, 4, 5), (0, 4)])
def test_squared_difference(kit, rng, shape):
    a, b = rng.standard_normal((2, *shape))
    out = kit.empty(shape)
    total, count = summed(kit.ops.squared_difference, kit.array(a), kit.array(b), out)
    assert count == out.size
    assert total == pytest.approx(((a - b) ** 2).sum(), rel=1e-5)
    kit.assert_close(out, a - b)


@pytest.mark.parametrize("shape", [(7, 5), (1, 3), (4, 1), (0, 3)])
def test_rows(kit, rng, shape):
    a, b = rng.standard_normal((2, *shape))
    factor = rng.standard_normal(shape[0])
    given = kit.array(a), kit.array(b)
    squares = kit.param(np.zeros(shape[0]))
    kit.ops.row_distances(*given, squares)
    np.testing.assert_allclose(squares, ((a - b) ** 2).sum(axis=1), rtol=1e-5)
    da, db = kit.empty(shape), kit.empty(shape)
    kit.ops.pull_rows(*given, kit.param(factor), da, db)
    want = (a - b) * factor[:, None]
    kit.assert_close(da, want)
    kit.assert_close(db, -want)
    kit.ops.pull_rows(*given, kit.param(factor), None, db)
    kit.ops.pull_rows(*given, kit.param(factor), da, None)
    kit.assert_close(da, -db)
