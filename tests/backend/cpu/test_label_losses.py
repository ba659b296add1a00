"""Losses over so much that pieces of it go to several threads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.backend.conftest import summed, weight
from tests.backend.cpu.conftest import stored


@pytest.mark.parametrize("ignore", [None, 1])
def test_sigmoid_loss_in_pieces(ops, slow, rng, ignore):
    shape = (4, 6, 100, 90)
    x, target = stored(rng.standard_normal(shape)), stored(rng.random(shape) * 1.5)
    total, counted = summed(ops.sigmoid_loss, x, target, ignore)
    want, number = summed(
        slow.sigmoid_loss, x.astype(float), target.astype(float), ignore
    )
    assert math.isclose(total, want, rel_tol=1e-6)
    assert counted == number
    assert summed(ops.sigmoid_loss, x, target, ignore)[0] == total
    dx, slow_dx = stored(np.zeros(shape)), np.zeros(shape)
    ops.sigmoid_loss_backward(x, target, ignore, weight(0.5), dx)
    slow.sigmoid_loss_backward(x, target, ignore, weight(0.5), slow_dx)
    np.testing.assert_allclose(dx, slow_dx, atol=2e-7)


@pytest.mark.parametrize("ignore", [None, 2])
def test_infogain_loss_in_pieces(ops, slow, rng, ignore):
    shape = (2, 5, 160, 150)
    prob = rng.random(shape) + 0.01
    prob /= prob.sum(axis=1, keepdims=True)
    label = rng.integers(0, 5, (2, 160, 150)).astype(np.float32)
    gain = rng.standard_normal((5, 5)).astype(np.float32)
    last = (label, 1, ignore, gain)
    total, counted = summed(ops.infogain_loss, stored(prob), *last, 1e-20)
    want, number = summed(slow.infogain_loss, prob, *last, 1e-20)
    assert math.isclose(total, want, rel_tol=1e-5)
    assert counted == number
    dx, slow_dx = stored(np.zeros(shape)), np.zeros(shape)
    ops.infogain_loss_backward(stored(prob), *last, weight(0.5), dx)
    slow.infogain_loss_backward(prob, *last, weight(0.5), slow_dx)
    np.testing.assert_allclose(dx, slow_dx, atol=2e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_hinge_loss_in_pieces(ops, slow, rng, squared):
    """A sure and right score, far beyond the margin, takes nothing from the rest."""
    x = rng.standard_normal((900, 700)).astype(np.float32)
    label = rng.integers(0, 700, 900).astype(np.float32)
    x[np.arange(900), label.astype(int)] = 1e6
    total, _ = summed(ops.hinge_loss, x, label, squared=squared)
    want, _ = summed(slow.hinge_loss, x.astype(float), label, squared=squared)
    assert math.isclose(total, want, rel_tol=1e-5)
    dx, slow_dx = np.empty_like(x), np.empty(x.shape)
    ops.hinge_loss_backward(x, label, weight(0.5), dx, squared=squared)
    slow.hinge_loss_backward(
        x.astype(float), label, weight(0.5), slow_dx, squared=squared
    )
    np.testing.assert_allclose(dx, slow_dx, rtol=1e-6, atol=1e-6)
