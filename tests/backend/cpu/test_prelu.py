from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored


def plain(values):
    return stored(values, channels_last=False)


@pytest.mark.parametrize("layout", [stored, plain, inside])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_as_the_reference(ops, slow, rng, layout, shared, in_place):
    x, dy = rng.standard_normal((2, 3, 16, 7, 6))
    slope = rng.random(1 if shared else 16)
    want, dx_want, dslope_want = np.empty_like(x), np.empty_like(x), np.ones_like(slope)
    slow.prelu(x, slope, want)
    slow.prelu_backward(x, slope, dy, dx_want, dslope_want)
    slopes, dslope = slope.astype(np.float32), np.ones(slope.size, np.float32)
    bottom, top = layout(x), layout(dy)
    y = layout(x) if in_place else stored(x * np.nan)
    ops.prelu(y if in_place else bottom, slopes, y)
    assert_near(y, want)
    dx = top if in_place else stored(x * np.nan)
    ops.prelu_backward(bottom, slopes, top, dx, dslope)
    assert_near(dx, dx_want)
    assert_near(dslope, dslope_want)


def test_slopes_of_a_matrix(ops):
    x = np.array([[-1, 2], [3, -4]], np.float32)
    y = np.empty_like(x)
    ops.prelu(x, np.array([0.5, 0.25], np.float32), y)
    assert y.tolist() == [[-0.5, 2], [3, -1]]
