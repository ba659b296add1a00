"""Normalisation by own moments against its definition, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

EPS = 0.01


def definition(x, kept, *, variance):
    axes = tuple(range(kept, x.ndim))
    off = x - x.mean(axis=axes, keepdims=True)
    spread = np.sqrt((off**2).mean(axis=axes, keepdims=True)) + EPS
    return (off / spread if variance else off), spread


@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 40, 17, 16), (0, 3, 4, 5)])
def test_forward_and_backward(kit, rng, shape, kept, variance):
    x, dy = rng.standard_normal(shape) + 2, rng.standard_normal(shape)
    axes = tuple(range(kept, 4))
    want, spread = np.zeros(shape), np.ones(())
    if x.size:
        want, spread = definition(x, kept, variance=variance)
    deviation = kit.empty_param(shape[:kept]) if variance else None
    y, dx = kit.empty(shape), kit.empty(shape)
    kit.ops.mean_variance(kit.array(x), y, kept, EPS, deviation)
    kit.assert_close(y, want, 10)
    kit.ops.mean_variance_backward(y, kit.array(dy), dx, kept, deviation)
    if not x.size:
        return
    back = dy - dy.mean(axis=axes, keepdims=True)
    if variance:
        back -= want * (want * dy).mean(axis=axes, keepdims=True)
        back /= spread
        kit.assert_close(deviation, spread.reshape(shape[:kept]), 10)
    kit.assert_close(dx, back, 10)
    # In place, both ways.
    whole, grad = kit.array(x), kit.array(dy)
    kit.ops.mean_variance(whole, whole, kept, EPS, deviation)
    kit.assert_close(whole, want, 10)
    kit.ops.mean_variance_backward(whole, grad, grad, kept, deviation)
    kit.assert_close(grad, back, 10)
