"""Every loss beside its formula, and its gradient beside a numeric one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.backend.conftest import summed, weight
from tests.gradcheck import numeric_gradient


def test_log_loss(kit, rng):
    prob = rng.random((5, 4)) + 0.1
    prob[2, 1] = 0
    label = np.array([3, 0.9, 1, -0.5, 2])
    picked = [prob[0, 3], prob[1, 0], 1e-20, prob[3, 0], prob[4, 2]]
    total, count = summed(kit.ops.log_loss, kit.array(prob), kit.param(label), 1e-20)
    assert count == 5
    assert math.isclose(total, -sum(map(math.log, picked)), rel_tol=1e-5)
    dx = kit.empty((5, 4))
    kit.ops.log_loss_backward(kit.array(prob), kit.param(label), 1e-20, weight(0.5), dx)
    want = np.zeros((5, 4))
    for i, (c, p) in enumerate(zip([3, 0, 1, 0, 2], picked, strict=True)):
        want[i, c] = -0.5 / p
    np.testing.assert_allclose(dx, want, rtol=1e-5)


@pytest.mark.parametrize("squared", [False, True])
def test_hinge_loss(kit, rng, squared):
    x, label = rng.standard_normal((5, 4)) * 2, np.array([3, 0, 1.7, 2, 2])
    want, slope = 0.0, np.zeros((5, 4))
    for i in range(5):
        for c in range(4):
            sign = -1 if c == int(label[i]) else 1
            margin = max(0.0, 1 + sign * x[i, c])
            want += margin**2 if squared else margin
            slope[i, c] = sign * (2 * margin if squared else margin > 0)
    bottom, labels, dx = kit.array(x), kit.param(label), kit.empty((5, 4))
    total, count = summed(kit.ops.hinge_loss, bottom, labels, squared=squared)
    assert count == 5
    assert math.isclose(total, want, rel_tol=1e-5)
    kit.ops.hinge_loss_backward(bottom, labels, weight(0.25), dx, squared=squared)
    kit.assert_close(dx, 0.25 * slope)
    kit.assert_close(bottom, x)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 4), 1), ((2, 4, 3, 5), 1), ((3, 2, 4), -1), ((4, 5), 0)]
)
def test_infogain_loss(kit, rng, shape, axis, ignore):
    axis %= len(shape)
    x, classes = rng.standard_normal(shape), shape[axis]
    places = shape[:axis] + shape[axis + 1 :]
    label = rng.integers(0, classes, places)
    gain = rng.standard_normal((classes, classes))

    def loss(scores):
        rows = np.moveaxis(np.log(softmax(scores, axis)), axis, -1)
        return -sum(
            float(gain[label[at]] @ rows[at])
            for at in np.ndindex(places)
            if label[at] != ignore
        )

    prob, labels, weights = softmax(x, axis), kit.param(label), kit.param(gain)
    bottom, dx = kit.array(prob), kit.empty(shape)
    given = bottom, labels, axis, ignore, weights
    total, counted = summed(kit.ops.infogain_loss, *given, 1e-20)
    assert math.isclose(total, loss(x), rel_tol=1e-4, abs_tol=1e-4)
    assert counted == (label != ignore).sum()
    kit.ops.infogain_loss_backward(*given, weight(0.5), dx)
    np.testing.assert_allclose(dx, 0.5 * numeric_gradient(loss, x), atol=2e-6)


def test_infogain_loss_of_impossible_classes(kit):
    prob, gain = kit.array([[1.0, 0.0]]), kit.param([[0.0, 2.0], [1.0, 1.0]])
    given = prob, kit.param([0]), 1, None, gain, 1e-20
    total, _ = summed(kit.ops.infogain_loss, *given)
    assert math.isclose(total, -2 * math.log(1e-20), rel_tol=1e-5)


@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4, 5)])
def test_sigmoid_loss(kit, rng, shape, ignore):
    x, target = rng.standard_normal(shape) * 3, rng.random(shape) * 1.5
    counts = np.ones(shape, bool) if ignore is None else target < 1

    def loss(scores):
        p = 1 / (1 + np.exp(-scores))
        each = -target * np.log(p) - (1 - target) * np.log(1 - p)
        return float(each[counts].sum())

    bottom, targets, dx = kit.array(x), kit.array(target), kit.empty(shape)
    total, counted = summed(kit.ops.sigmoid_loss, bottom, targets, ignore)
    assert math.isclose(total, loss(x), rel_tol=1e-4)
    assert counted == counts.sum()
    kit.ops.sigmoid_loss_backward(bottom, targets, ignore, weight(0.5), dx)
    np.testing.assert_allclose(dx, 0.5 * numeric_gradient(loss, x), atol=2e-6)
    assert (np.asarray(dx)[~counts] == 0).all()


@pytest.mark.filterwarnings("error")
def test_sigmoid_loss_does_not_overflow(kit):
    x, target = kit.array([[2000.0, -2000.0]]), kit.array([[0.0, 1.0]])
    assert summed(kit.ops.sigmoid_loss, x, target, None) == (4000, 2)
    dx = kit.empty((1, 2))
    kit.ops.sigmoid_loss_backward(x, target, None, weight(1), dx)
    assert dx.tolist() == [[1, -1]]
