from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.backend.conftest import caffe_close, summed, weight
from tests.gradcheck import numeric_gradient

CASES = [
    ((6, 10), 1), ((2, 5, 4, 3), 1), ((3, 16, 2, 2), 1), ((2, 3, 4, 5), 3),
    ((2, 3, 4, 5), 2), ((4, 3), 0), ((1, 1000), 1),
]  # fmt: skip


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def label_shape(shape, axis):
    return (*shape[:axis], *shape[axis + 1 :])


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_softmax(kit, rng, shape, axis):
    x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    want = softmax(x, axis)
    for bottom, y in ((kit.array(x), kit.empty(shape)), (z := kit.array(x), z)):
        kit.ops.softmax(bottom, axis, y)
        kit.assert_close(y, want, loose=4)
    slope = (dy - (dy * want).sum(axis, keepdims=True)) * want
    for top, dx in ((kit.array(dy), kit.empty(shape)), (z := kit.array(dy), z)):
        kit.ops.softmax_backward(kit.array(want), top, axis, dx)
        kit.assert_close(dx, slope, loose=4)


def test_softmax_of_large_values(kit):
    x = kit.array([[1e4, 1e4, -1e4], [-3e38, 0.0, -3e38]])
    kit.ops.softmax(x, 1, x)
    np.testing.assert_allclose(x, [[0.5, 0.5, 0], [0, 1, 0]], atol=1e-30)


def naive_loss(prob, labels, axis, ignore):
    """One place after the other."""
    total, count = 0.0, 0
    moved = np.moveaxis(prob, axis, -1).reshape(-1, prob.shape[axis])
    for p, label in zip(moved, labels.ravel(), strict=True):
        if label != ignore:
            total -= np.log(max(p[int(label)], np.finfo(np.float32).tiny))
            count += 1
    return total, count


@pytest.mark.parametrize("ignore", [None, 0, 255])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_softmax_loss(kit, rng, shape, axis, ignore):
    x = rng.standard_normal(shape)
    labels = rng.integers(0, shape[axis], label_shape(shape, axis)).astype(float)
    if ignore == 255:
        labels.ravel()[::3] = 255
    prob = kit.array(softmax(x, axis))
    loss, count = summed(kit.ops.softmax_loss, prob, kit.array(labels), axis, ignore)
    want, want_count = naive_loss(softmax(x, axis), labels, axis, ignore)
    assert loss == pytest.approx(want, rel=1e-5)
    assert count == want_count
    dx = kit.empty(shape)
    kit.ops.softmax_loss_backward(
        prob, kit.array(labels), axis, ignore, weight(0.5), dx
    )
    if x.size < 200:
        slope = numeric_gradient(
            lambda v: 0.5 * naive_loss(softmax(v, axis), labels, axis, ignore)[0], x
        )
        np.testing.assert_allclose(dx, slope, atol=2e-6)
    kit.ops.softmax_loss_backward(
        prob, kit.array(labels), axis, ignore, weight(0.5), prob
    )
    kit.assert_close(prob, dx)


def test_labels_may_have_any_shape_of_that_count(kit, rng):
    prob = kit.array(softmax(rng.standard_normal((4, 5)), 1))
    plain = summed(kit.ops.softmax_loss, prob, kit.array([0.0, 1.0, 2.0, 4.0]), 1, None)
    for shape in ((4, 1), (4, 1, 1, 1), (2, 2)):
        labels = kit.array(np.reshape([0.0, 1.0, 2.0, 4.0], shape))
        assert summed(kit.ops.softmax_loss, prob, labels, 1, None) == plain
    with pytest.raises(ShapeError, match=r"labels of shape \(3,\)"):
        summed(kit.ops.softmax_loss, prob, kit.array([0.0, 1.0, 2.0]), 1, None)


@pytest.mark.parametrize("bad", [5.0, -1.0, np.nan, np.inf, 1e20])
def test_a_label_that_is_no_class_is_refused(kit, bad):
    """By the CPUs, once more: a GPU leaves it out, as the layer's check has it."""
    if kit.ops.name == "gpu":
        prob = kit.array(np.full((3, 5), 0.2))
        labels, dx = kit.array([0.0, bad, 1.0]), kit.empty((3, 5))
        total, count = summed(kit.ops.softmax_loss, prob, labels, 1, None)
        assert (total, count) == (pytest.approx(2 * np.log(5)), 2)
        kit.ops.softmax_loss_backward(prob, labels, 1, None, weight(1.0), dx)
        assert (dx[1] == 0).all()
        return
    prob = kit.array(np.full((3, 5), 0.2))
    labels = kit.array([0.0, bad, 1.0])
    message = rf"label {bad:g} \(number 1 of the batch\).*5 classes 0 to 4"
    with pytest.raises(LayerError, match=message.replace("+", r"\+")):
        summed(kit.ops.softmax_loss, prob, labels, 1, None)
    with pytest.raises(LayerError, match="classes 0 to 4"):
        kit.ops.softmax_loss_backward(
            prob, labels, 1, None, weight(1.0), kit.empty((3, 5))
        )
    if bad in {5.0, -1.0}:
        assert summed(kit.ops.softmax_loss, prob, labels, 1, int(bad))[1] == 2


def test_probability_zero_costs_log_flt_min(kit):
    prob = kit.array([[0.0, 1.0]])
    loss, _ = summed(kit.ops.softmax_loss, prob, kit.array([0.0]), 1, None)
    assert loss == pytest.approx(87.3365, abs=1e-3)


def test_nan_stays_visible(kit):
    prob = kit.array([[np.nan, 1.0]])
    loss, _ = summed(kit.ops.softmax_loss, prob, kit.array([0.0]), 1, None)
    assert np.isnan(loss)


def test_nothing_to_count(kit):
    prob, none = kit.array(np.zeros((0, 5))), kit.array(np.zeros(0))
    assert summed(kit.ops.softmax_loss, prob, none, 1, None) == (0.0, 0)
    kit.ops.softmax(prob, 1, prob)
    kit.ops.softmax_backward(prob, prob, 1, prob)
    kit.ops.softmax_loss_backward(prob, none, 1, None, weight(1.0), prob)
    prob, labels = kit.array(np.full((2, 5), 0.2)), kit.array([3.0, 3.0])
    assert summed(kit.ops.softmax_loss, prob, labels, 1, 3) == (0.0, 0)
    dx = kit.empty((2, 5))
    kit.ops.softmax_loss_backward(prob, labels, 1, 3, weight(1.0), dx)
    assert (dx == 0).all()


@pytest.mark.parametrize("name", ["softmaxloss", "softmaxloss_spatial"])
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    x, labels = kit.array(case["in/x"]), kit.array(case["in/t"])
    prob, dx = kit.empty(x.shape), kit.empty(x.shape)
    kit.ops.softmax(x, 1, prob)
    loss, count = summed(kit.ops.softmax_loss, prob, labels, 1, None)
    assert caffe_close(np.asarray(loss / count), case["out/loss"])
    kit.ops.softmax_loss_backward(prob, labels, 1, None, weight(1 / count), dx)
    assert caffe_close(dx, case["in_diff/x"])


@pytest.mark.parametrize("name", ["softmax", "softmax_2d"])
def test_softmax_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    x, dy = kit.array(case["in/x"]), kit.array(case["out_diff/y"])
    y, dx = kit.empty(x.shape), kit.empty(x.shape)
    kit.ops.softmax(x, 1, y)
    kit.ops.softmax_backward(y, dy, 1, dx)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
