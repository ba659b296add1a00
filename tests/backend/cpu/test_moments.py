"""Moments in blocks: few and many channels, long and short planes, large means."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored, unset

SHAPES = [
    (2, 3, 96, 80),
    (1, 130, 14, 13),
    (70, 40, 7, 7),
    (3, 5, 1, 4999),
    (1, 1, 150, 151),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_agree_with_the_reference(ops, slow, rng, shape, kept, channels_last):
    x, dy = 100 + rng.standard_normal(shape), rng.standard_normal(shape)
    x = x.astype(np.float32).astype(np.float64)
    y = unset(shape, channels_last=channels_last)
    dx = unset(shape, channels_last=channels_last)
    deviation = np.empty(shape[:kept], np.float32)
    ops.mean_variance(stored(x, channels_last=channels_last), y, kept, 1e-9, deviation)
    ops.mean_variance_backward(
        y, stored(dy, channels_last=channels_last), dx, kept, deviation
    )
    want, back, spread = np.empty(shape), np.empty(shape), np.empty(shape[:kept])
    slow.mean_variance(x, want, kept, 1e-9, spread)
    slow.mean_variance_backward(want, dy, back, kept, spread)
    # A mean of 100 leaves 1e-5 of precision to differences of about 1.
    assert_near(y, want, 2)
    assert_near(deviation, spread)
    assert_near(dx, back, 2)


def test_slices_and_mixed_layouts_go_to_the_reference(ops, slow, rng):
    x = rng.standard_normal((2, 20, 30, 40))
    want, spread = np.empty(x.shape), np.empty((2, 20))
    slow.mean_variance(x, want, 2, 1e-9, spread)
    for source, target in (
        (inside(x), unset(x.shape)),
        (stored(x, channels_last=False), unset(x.shape)),
    ):
        deviation = np.empty((2, 20), np.float32)
        ops.mean_variance(source, target, 2, 1e-9, deviation)
        assert_near(target, want)
