"""Softmax by the library, in each order of memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.loss import class_planes
from poseidon_caffe.errors import LayerError, ShapeError
from tests.backend.conftest import summed, weight
from tests.backend.cpu.conftest import stored

# Beyond what NumPy does.
CASES = [((40, 500), 1), ((2, 21, 30, 40), 1), ((6, 9, 20, 30), 2), ((60, 7, 80), 0)]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_softmax(ops, slow, rng, shape, axis, last):
    x, dy = rng.standard_normal(shape) * 5, rng.standard_normal(shape)
    want, slope = np.empty(shape), np.empty(shape)
    slow.softmax(x, axis, want)
    slow.softmax_backward(want, dy, axis, slope)
    y = stored(x, channels_last=last)
    ops.softmax(y, axis, y)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-6)
    dx = stored(dy, channels_last=last)
    ops.softmax_backward(y, dx, axis, dx)
    np.testing.assert_allclose(dx, slope, atol=2e-6)


@pytest.mark.parametrize("largest", [1, 63, 65, 1000])
def test_softmax_of_few_classes(ops, slow, rng, largest):
    """Those of scores that need no maximum taken off, and of others."""
    x = rng.uniform(-1, 1, (2, 5, 300, 310))
    x[:, :, :10] *= largest
    want = np.empty(x.shape)
    slow.softmax(x.astype(np.float32).astype(float), 1, want)
    y = stored(x)
    ops.softmax(y, 1, y)
    np.testing.assert_allclose(y, want, rtol=2e-5, atol=1e-30)
    x[0, 2, 3, 4] = np.nan
    ops.softmax(stored(x), 1, y)
    bad = np.isnan(y)
    assert bad[0, 2, 3, 4]
    assert bad.sum() == bad[0, :, 3, 4].sum()


@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_loss(ops, slow, rng, shape, axis, last, ignore):
    x = rng.standard_normal(shape)
    prob = np.empty(shape)
    slow.softmax(x, axis, prob)
    label = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    label = label + rng.random(label.shape) * 0.9
    fast = stored(prob, channels_last=last)
    got, want = (summed(o.softmax_loss, p, label, axis, ignore) for o, p in
                 ((ops, fast), (slow, prob)))  # fmt: skip
    assert math.isclose(got[0], want[0], rel_tol=1e-5)
    assert got[1] == want[1]
    dx, slope = stored(np.zeros(shape), channels_last=last), np.empty(shape)
    ops.softmax_loss_backward(fast, label, axis, ignore, weight(0.3), dx)
    slow.softmax_loss_backward(prob, label, axis, ignore, weight(0.3), slope)
    np.testing.assert_allclose(dx, slope, atol=1e-6)


def test_arrays_that_lie_differently_go_to_the_reference(ops, rng):
    x = rng.standard_normal((2, 5, 60, 70)).astype(np.float32)
    assert class_planes(1, stored(x), x) is None
    assert class_planes(2, stored(x)) is None
    y = np.empty_like(x)
    ops.softmax(stored(x), 1, y)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 4, np.nan, 1e12])
def test_bad_labels_are_named(ops, label):
    prob = np.full((3, 4), 0.25, np.float32)
    labels = np.array([0, label, 0], np.float32)
    for call in (
        lambda: summed(ops.softmax_loss, prob, labels, 1, None),
        lambda: ops.softmax_loss_backward(
            prob, labels, 1, None, weight(1), prob.copy()
        ),
    ):
        with pytest.raises(LayerError, match="number 1 of the batch"):
            call()
    with pytest.raises(ShapeError):
        summed(ops.softmax_loss, prob, labels[:2], 1, None)
