"""Gradients of scales and shifts: wide and narrow, in place, added to, fallbacks."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu import affine
from tests.backend.cpu.conftest import assert_near, inside, stored


def plain(values):
    return stored(values, channels_last=False)


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch):
    monkeypatch.setattr(affine, "_BLOCK_COUNT", 1 << 15)


@pytest.mark.parametrize("layout", [stored, plain, inside])
@pytest.mark.parametrize(
    "shape",
    [
        (5, 16, 40, 30),  # several blocks, the last one short
        (2, 48, 12, 11),  # less than one
        (4, 3, 64, 48),  # several places side by side
        (3, 7, 49, 43),  # no good number of lanes
        (2, 16, 4, 16, 20),
        (900, 40),
        (2, 3, 4, 5),
    ],
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_gradients_agree(ops, rng, shape, layout, accumulate):
    x, dy = rng.standard_normal((2, *shape))
    scale, before, more = rng.standard_normal((3, shape[1])).astype(np.float32)
    wide = scale.reshape(-1, *[1] * (len(shape) - 2))
    axes = tuple(i for i in range(len(shape)) if i != 1)
    dscale, dshift, alone = before.copy(), more.copy(), more.copy()
    dx, given = layout(x * np.nan), layout(dy)
    ops.scale_shift_backward(
        layout(x), given, 1, scale, dx, dscale, dshift, accumulate=accumulate
    )
    assert_near(dx, dy * wide)
    sums = (x * dy).sum(axes), dy.sum(axes)
    want = [s + accumulate * b for s, b in zip(sums, (before, more), strict=True)]
    assert_near(dscale, want[0], 4)
    assert_near(dshift, want[1], 4)
    np.testing.assert_array_equal(given, layout(dy))
    # The bias's own: dx is dy.
    ops.scale_shift_backward(
        None, given, 1, None, dx, None, alone, accumulate=accumulate
    )
    np.testing.assert_array_equal(dx, given)
    assert_near(alone, want[1], 4)


@pytest.mark.parametrize("layout", [stored, plain])
@pytest.mark.parametrize("shape", [(5, 16, 40, 30), (4, 3, 64, 48), (2, 3, 4, 5)])
def test_dx_may_be_dy(ops, rng, shape, layout):
    x, dy = rng.standard_normal((2, *shape))
    scale = rng.standard_normal(shape[1]).astype(np.float32)
    dscale, dshift = np.empty((2, shape[1]), np.float32)
    given = layout(dy)
    ops.scale_shift_backward(layout(x), given, 1, scale, given, dscale, dshift)
    assert_near(given, dy * scale[:, None, None])
    assert_near(dscale, (x * dy).sum((0, 2, 3)), 4)
    assert_near(dshift, dy.sum((0, 2, 3)), 4)


def test_only_what_is_wanted_is_written(ops, rng):
    x, dy = (stored(a) for a in rng.standard_normal((2, 4, 16, 40, 30)))
    scale = rng.standard_normal(16).astype(np.float32)
    one, two = np.empty((2, 16), np.float32)
    dx = stored(np.full(x.shape, np.nan))
    ops.scale_shift_backward(x, dy, 1, scale, None, one, two)
    assert_near(one, (x * dy).sum((0, 2, 3), np.float64), 4)
    ops.scale_shift_backward(x, dy, 1, scale, dx, two, None)
    assert_near(two, one, 2)
    dx[...] = np.nan
    ops.scale_shift_backward(None, dy, 1, scale, dx, None, None)
    assert_near(dx, dy * scale[:, None, None])
