"""One number from all trailing axes, against its definition, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

PARTS = {"sum": lambda x: x, "asum": np.abs, "sumsq": np.square}
SLOPES = {"sum": np.ones_like, "asum": np.sign, "sumsq": lambda x: 2 * x}
SHAPES = [(3, 4, 5, 2), (2, 3, 70, 90), (40, 3), (7,), (5, 1, 1, 1), (0, 3)]


@pytest.mark.parametrize("kind", sorted(PARTS))
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(kit, rng, shape, kind):
    x = rng.standard_normal(shape)
    for axis in range(len(shape)):
        tail = tuple(range(axis, len(shape)))
        y, dx = kit.empty_param(shape[:axis]), kit.empty(shape)
        kit.ops.reduce_tail(kit.array(x), axis, kind, 0.5, y)
        # Numbers of both signs cancel in sums, their rounding errors do not.
        loose = 20 if kind == "sum" else 2
        kit.assert_close(y, 0.5 * PARTS[kind](x).sum(axis=tail), loose)
        dy = rng.standard_normal(shape[:axis])
        args = (kit.array(x), kit.param(dy), axis, kind, 0.5)
        kit.ops.reduce_tail_backward(*args, dx)
        slopes = 0.5 * dy.reshape(shape[:axis] + (1,) * len(tail))
        kit.assert_close(dx, slopes * SLOPES[kind](x), 4)


def test_the_gradient_of_channels_last_sums(kit, rng):
    # dy and y have four axes themselves, so they may be channels-last too.
    x, dy = rng.standard_normal((2, 3, 4, 5, 6)), rng.standard_normal((2, 3, 4, 5))
    y, dx = kit.empty(dy.shape), kit.empty(x.shape)
    kit.ops.reduce_tail(kit.array(x), 4, "sumsq", 2.0, y)
    kit.assert_close(y, 2 * np.square(x).sum(axis=4), 4)
    kit.ops.reduce_tail_backward(kit.array(x), kit.array(dy), 4, "sumsq", 2.0, dx)
    kit.assert_close(dx, 4 * dy[..., None] * x, 4)
