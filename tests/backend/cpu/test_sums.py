from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored


def plain(values):
    return stored(values, channels_last=False)


LAYOUTS = [stored, plain, inside]
SHAPES = [(5, 64, 23, 21), (70_000, 3), (3, 2, 120, 130), (2, 7, 9, 11, 13)]


CASES = [
    (shape, layout)
    for shape in SHAPES
    for layout in (LAYOUTS if len(shape) == 4 else LAYOUTS[:2])
]


@pytest.mark.parametrize(("shape", "layout"), CASES)
def test_channel_sums(ops, rng, shape, layout):
    x, other = rng.standard_normal((2, *shape)) + 0.5
    axes = tuple(i for i in range(len(shape)) if i != 1)
    out = np.ones(shape[1], np.float32)
    ops.sum_outer(layout(x), 1, shape[1:2], out)
    assert_near(out, x.sum(axes))
    ops.sum_outer(layout(x), 1, shape[1:2], out, layout(other), accumulate=True)
    assert_near(out, x.sum(axes) + (x * other).sum(axes))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_totals(ops, rng, layout):
    x = rng.standard_normal((5, 64, 23, 21))
    assert ops.asum(layout(x)) == pytest.approx(np.abs(x).sum(), rel=1e-6)
    assert ops.sumsq(layout(x)) == pytest.approx((x**2).sum(), rel=1e-6)


def test_sums_of_many_numbers_stay_exact(ops):
    """A float32 total would stop growing at 2^24."""
    x = stored(np.ones((64, 1, 600, 600)))
    out = np.zeros(1, np.float32)
    ops.sum_outer(x, 1, (1,), out)
    assert out[0] == 64 * 600 * 600
    assert ops.asum(x) == 64 * 600 * 600
