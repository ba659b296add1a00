"""Moments by oneDNN: folded lanes, far means, constant channels, in place."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.lanes import fold_of
from tests.backend.cpu.conftest import assert_near, stored, unset

IMAGES = [
    (3, 16, 64, 48),  # lanes are channels, images shared out
    (1, 32, 40, 32),  # one image, all threads
    (9, 64, 10, 10),  # small images
    (2, 3, 96, 80),  # folded
    (4, 20, 40, 40),
]


def both(ops, slow, x, dy, eps, *, kept, channels_last):
    """(y, deviation, dx) of the backend, and of the reference in float64."""
    shape = x.shape
    y = unset(shape, channels_last=channels_last)
    dx = unset(shape, channels_last=channels_last)
    spread = np.full(shape[:kept], np.nan, np.float32)
    given = stored(x, channels_last=channels_last)
    ops.mean_variance(given, y, kept, eps, spread)
    np.testing.assert_array_equal(given, x)
    dtop = stored(dy, channels_last=channels_last)
    ops.mean_variance_backward(y, dtop, dx, kept, spread)
    want = np.empty(shape), np.empty(shape[:kept]), np.empty(shape)
    slow.mean_variance(x.astype(np.float64), want[0], kept, eps, want[1])
    slow.mean_variance_backward(want[0], dy, want[2], kept, want[1])
    return (y, spread, dx), want


@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("shape", IMAGES)
def test_images_agree_with_the_reference(ops, slow, rng, shape, mean):
    # The deviations differ from channel to channel, the means from image to image.
    x = rng.standard_normal(shape) * np.linspace(0.5, 2, shape[1])[:, None, None]
    x = (x + mean * np.linspace(0, 1, shape[0])[:, None, None, None]).astype(np.float32)
    dy = rng.standard_normal(shape) + 0.5
    got, want = both(ops, slow, x, dy, 1e-9, kept=2, channels_last=True)
    for found, expected in zip(got, want, strict=True):
        assert_near(found, expected, 2)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("shape", IMAGES)
def test_a_large_eps_counts(ops, slow, rng, shape, kept, channels_last):
    x = rng.standard_normal(shape).astype(np.float32)
    # Of one image in several only: the others need no change.
    x[0] *= 0.01
    dy = rng.standard_normal(shape)
    got, want = both(ops, slow, x, dy, 0.01, kept=kept, channels_last=channels_last)
    for found, expected in zip(got, want, strict=True):
        assert_near(found, expected, 2)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", IMAGES)
def test_a_constant_channel_becomes_zero(ops, rng, shape, channels_last):
    x = rng.standard_normal(shape)
    x[-1, 1] = 0
    x[0, 1], x[0, 2] = 0.1, -1000.7
    y = unset(shape, channels_last=channels_last)
    spread = np.empty(shape[:2], np.float32)
    ops.mean_variance(stored(x, channels_last=channels_last), y, 2, 1e-5, spread)
    for image, channel, scale in ((0, 1, 0.1), (0, 2, 1000.7), (-1, 1, 0.1)):
        # Some rounding of the mean may be left, which eps makes larger.
        assert np.abs(y[image, channel]).max() <= 2e-7 * scale / 1e-5
        assert spread[image, channel] >= 0.99999e-5
        assert spread[image, channel] <= 1.1e-5 + 2e-7 * scale
    assert y[0, 0].std() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", IMAGES)
def test_in_place_changes_nothing(ops, rng, shape, channels_last):
    x = 20 + rng.standard_normal(shape)
    dy = rng.standard_normal(shape)
    there = stored(x, channels_last=channels_last)
    apart, out = (unset(shape, channels_last=channels_last) for _ in range(2))
    spread, again = (np.empty(shape[:2], np.float32) for _ in range(2))
    ops.mean_variance(there, apart, 2, 1e-3, spread)
    ops.mean_variance(there, there, 2, 1e-3, again)
    np.testing.assert_array_equal(there, apart)
    np.testing.assert_array_equal(spread, again)
    given = stored(dy, channels_last=channels_last)
    ops.mean_variance_backward(apart, given, out, 2, spread)
    ops.mean_variance_backward(apart, given, given, 2, spread)
    np.testing.assert_array_equal(given, out)


def test_folds():
    assert fold_of(10, 64) == 1
    assert fold_of(96, 3) == 16
    assert fold_of(8, 3) == 8  # only 8 lanes fit
    assert fold_of(7, 24) == 1
    assert fold_of(7, 3) == 0
    assert fold_of(4096, 4096) == 1
