"""Maxima by the library: ties, NaN, memory that is shared or lies differently."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import inside, stored, unset

SHAPE = (3, 16, 20, 30)


def values(rng, count):
    """Few different numbers, so that there are many ties."""
    return rng.integers(-2, 3, (count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_ties_go_as_the_reference_has_them(ops, slow, rng, count):
    xs, dy = values(rng, count), rng.standard_normal(SHAPE).astype(np.float32)
    srcs, given = [stored(x) for x in xs], stored(dy)
    want, slope, total = np.empty(SHAPE), np.empty(SHAPE), 0
    slow.maximum(list(xs), want)
    ops.maximum(srcs, y := unset(SHAPE))
    np.testing.assert_array_equal(y, want)
    for i in range(count):
        slow.maximum_backward(list(xs), i, dy, slope)
        ops.maximum_backward(srcs, i, given, dx := unset(SHAPE))
        np.testing.assert_array_equal(dx, slope)
        total += dx
    np.testing.assert_array_equal(total, dy)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_output_may_be_any_source(ops, rng, place):
    xs = values(rng, 3)
    srcs = [stored(x) for x in xs]
    ops.maximum(srcs, srcs[place])
    np.testing.assert_array_equal(srcs[place], xs.max(axis=0))


def test_what_is_no_number_goes_as_in_the_reference(ops, slow, rng):
    xs = values(rng, 3)
    for x in xs:
        x[rng.random(SHAPE) < 0.1] = np.nan
    want = np.empty(SHAPE, np.float32)
    slow.maximum(list(xs), want)
    ops.maximum([stored(x) for x in xs], y := unset(SHAPE))
    np.testing.assert_array_equal(y, want)


def test_arrays_that_lie_differently(ops, rng):
    xs = values(rng, 2)
    srcs = [inside(xs[0]), stored(xs[1], channels_last=False)]
    ops.maximum(srcs, y := unset(SHAPE))
    np.testing.assert_array_equal(y, xs.max(axis=0))
    dy = stored(np.ones(SHAPE))
    ops.maximum_backward(srcs, 1, dy, dy)
    np.testing.assert_array_equal(dy, xs[1] >= xs[0])
