from __future__ import annotations

import numpy as np
import pytest

from tests.backend.conftest import caffe_close

SHAPES = [(2, 3, 4, 5), (3, 16, 4, 4), (6, 10), (7,), (2, 3, 2, 3, 2), (0, 3, 4, 5)]


def relu(x, slope):
    return np.where(x > 0, x, slope * x)


def both(kit, x):
    """Output arrays for a run apart from and a run onto the input."""
    bottom = kit.array(x)
    return [(bottom, kit.empty(x.shape)), (again := kit.array(x), again)]


@pytest.mark.parametrize("slope", [0.0, 0.1, 2.0, -0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_relu(kit, rng, shape, slope):
    x, dy = rng.standard_normal((2, *shape))
    for bottom, y in both(kit, x):
        kit.ops.relu(bottom, y, slope)
        kit.assert_close(y, relu(x, slope))
    for top, dx in both(kit, dy):
        kit.ops.relu_backward(kit.array(x), top, dx, slope)
        kit.assert_close(dx, dy * np.where(x > 0, 1, slope))


@pytest.mark.parametrize("shape", [(2, 16, 3, 5), (7, 9), (0, 3)])
def test_relu_gradient_for_two(kit, rng, shape):
    y, dy = rng.standard_normal((2, *shape))
    want = dy * np.where(y > 0, 1, 0.25)
    for top, dx in both(kit, dy):
        other = kit.empty(shape)
        kit.ops.relu_backward(kit.array(y), top, dx, 0.25, other)
        kit.assert_close(dx, want)
        kit.assert_close(other, want)
    wide = kit.empty((2, *shape))
    kit.ops.relu_backward(kit.array(y), kit.array(dy), wide[0], 0.25, wide[1])
    kit.assert_close(wide[1], want)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 16, 3, 5), (300, 37), (3, 1, 4, 700), (5, 1), (2, 3, 2, 3, 2), (0, 3)]
)
def test_relu_gradient_and_its_sums(kit, rng, shape, accumulate):
    y, dy = rng.standard_normal((2, *shape))
    want = dy * np.where(y > 0, 1, 0.25)
    old = rng.standard_normal(shape[1])
    total = want.sum((0, *range(2, len(shape)))) + (old if accumulate else 0)
    for top, dx in both(kit, dy):
        sums = kit.param(old) if accumulate else kit.empty_param(old.shape)
        kit.ops.relu_backward_sums(
            kit.array(y), top, dx, 0.25, sums, accumulate=accumulate
        )
        kit.assert_close(dx, want)
        kit.assert_close(sums, total, loose=16)


def test_relu_passes_no_gradient_at_zero(kit):
    x, dx = kit.array([[0.0, -0.0, 1.0]]), kit.empty((1, 3))
    kit.ops.relu_backward(x, kit.array([[5.0, 5.0, 5.0]]), dx)
    assert dx.tolist() == [[0, 0, 5]]


def test_relu_on_channel_slices(kit, rng):
    x = rng.standard_normal((2, 16, 4, 4))
    wide = kit.array(np.full((2, 48, 4, 4), -1.0))
    wide[:, 16:32] = x
    kit.ops.relu(wide[:, 16:32], wide[:, 16:32])
    kit.assert_close(wide[:, 16:32], np.maximum(x, 0))
    assert (wide[:, :16] == -1).all()
    assert (wide[:, 32:] == -1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_sigmoid(kit, rng, shape):
    x, dy = rng.standard_normal((2, *shape)) * 4
    want = 1 / (1 + np.exp(-x))
    for bottom, y in both(kit, x):
        kit.ops.sigmoid(bottom, y)
        kit.assert_close(y, want, loose=4)
    for top, dx in both(kit, dy):
        kit.ops.sigmoid_backward(kit.array(want), top, dx)
        kit.assert_close(dx, dy * want * (1 - want), loose=4)


def test_sigmoid_does_not_overflow(kit):
    x = kit.array([[-1e30, -1000.0, -88.0, 0.0, 88.0, 1000.0, 1e30]])
    kit.ops.sigmoid(x, x)
    np.testing.assert_allclose(x, [[0, 0, 0, 0.5, 1, 1, 1]], atol=1e-30)


@pytest.mark.parametrize("shape", SHAPES)
def test_tanh(kit, rng, shape):
    x, dy = rng.standard_normal((2, *shape)) * 2
    want = np.tanh(x)
    for bottom, y in both(kit, x):
        kit.ops.tanh(bottom, y)
        kit.assert_close(y, want, loose=4)
    for top, dx in both(kit, dy):
        kit.ops.tanh_backward(kit.array(want), top, dx)
        kit.assert_close(dx, dy * (1 - want**2), loose=4)


@pytest.mark.parametrize("shared", [(), (1,), None])
@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) > 1])
def test_prelu(kit, rng, shape, shared):
    slopes = rng.standard_normal((shape[1],) if shared is None else shared)
    x, dy = rng.standard_normal((2, *shape))
    wide = slopes.reshape(1, -1, *[1] * (len(shape) - 2))
    for bottom, y in both(kit, x):
        kit.ops.prelu(bottom, kit.param(slopes), y)
        kit.assert_close(y, np.where(x > 0, x, wide * x))
    product = dy * x * (x <= 0)
    outer = (0, *range(2, len(shape)))
    want = product.sum(outer) if shared is None else product.sum().reshape(shared)
    for top, dx in both(kit, dy):
        dslope = kit.param(np.ones(slopes.shape))
        kit.ops.prelu_backward(kit.array(x), kit.param(slopes), top, dx, dslope)
        kit.assert_close(dx, dy * np.where(x > 0, 1, wide))
        kit.assert_close(dslope, 1 + want, loose=16)
    dslope = kit.param(np.zeros(slopes.shape))
    kit.ops.prelu_backward(kit.array(x), kit.param(slopes), kit.array(dy), None, dslope)
    kit.assert_close(dslope, want, loose=16)
    dx = kit.empty(shape)
    kit.ops.prelu_backward(kit.array(x), kit.param(slopes), kit.array(dy), dx, None)
    kit.assert_close(dx, dy * np.where(x > 0, 1, wide))


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout(kit, rng, shape):
    x = rng.standard_normal(shape)
    mask = kit.array(rng.integers(0, 2, shape)).astype(np.uint8)
    for bottom, y in both(kit, x):
        kit.ops.dropout(bottom, mask, 2.5, y)
        kit.assert_close(y, x * mask * 2.5)


POWERS = [
    (1.0, 1.0, 0.0), (1.0, -2.0, 1.0), (2.0, 0.5, 1.0), (3.0, 0.5, 2.0),
    (0.5, 0.25, 3.0), (-1.0, 0.1, 2.0), (0.0, 2.0, 1.0), (2.0, 0.0, 3.0),
    (-0.75, 0.05, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("power", "scale", "shift"), POWERS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 10), (0, 3)])
def test_power(kit, rng, shape, power, scale, shift):
    x, dy = rng.uniform(-3, 3, shape), rng.standard_normal(shape)
    want = (shift + scale * x) ** power
    for bottom, y in both(kit, x):
        kit.ops.power(bottom, y, power, scale, shift)
        kit.assert_close(y, want, loose=8)
    slope = power * scale * (shift + scale * x) ** (power - 1) if scale else 0 * x
    for top, dx in both(kit, dy):
        kit.ops.power_backward(
            kit.array(x), kit.array(want), top, dx, power, scale, shift
        )
        kit.assert_close(dx, dy * slope, loose=8)


def test_power_at_odd_places(kit):
    """As C's powf, and without a warning: negative bases, zero bases."""
    x, y = kit.array([[-2.0, 0.0, 4.0]]), kit.empty((1, 3))
    kit.ops.power(x, y, 3.0, 1.0, 0.0)
    assert y.tolist() == [[-8, 0, 64]]
    kit.ops.power(x, y, 0.5, 1.0, 0.0)
    np.testing.assert_array_equal(y, [[np.nan, 0, 2]])
    kit.ops.power(x, y, -1.0, 1.0, 0.0)
    np.testing.assert_array_equal(y, [[-0.5, np.inf, 0.25]])
    dx, one = kit.empty((1, 3)), kit.array(np.ones((1, 3)))
    kit.ops.power_backward(x, y, one, dx, 2.0, 1.0, 0.0)
    assert dx.tolist() == [[-4, 0, 8]]
    # NaN in x does not matter where the result is a constant.
    x[...] = np.nan
    kit.ops.power(x, y, 0.0, 1.0, 0.0)
    assert y.tolist() == [[1, 1, 1]]
    kit.ops.power_backward(x, y, one, dx, 0.0, 1.0, 0.0)
    assert dx.tolist() == [[0, 0, 0]]


def run_golden(kit, name, case):
    """(forward, backward) of a recorded layer by the kernels."""
    ops, slope = kit.ops, case.get("param/0")
    return {
        "relu": (ops.relu, lambda x, y, dy, dx: ops.relu_backward(y, dy, dx)),
        "relu_leaky": (
            lambda x, y: ops.relu(x, y, 0.1),
            lambda x, y, dy, dx: ops.relu_backward(x, dy, dx, 0.1),
        ),
        "sigmoid": (ops.sigmoid, lambda x, y, dy, dx: ops.sigmoid_backward(y, dy, dx)),
        "tanh": (ops.tanh, lambda x, y, dy, dx: ops.tanh_backward(y, dy, dx)),
        "power": (
            lambda x, y: ops.power(x, y, 3.0, 0.5, 2.0),
            lambda x, y, dy, dx: ops.power_backward(x, y, dy, dx, 3.0, 0.5, 2.0),
        ),
        "power_one": (
            lambda x, y: ops.power(x, y, 1.0, -2.0, 1.0),
            lambda x, y, dy, dx: ops.power_backward(x, y, dy, dx, 1.0, -2.0, 1.0),
        ),
        "prelu": (
            lambda x, y: ops.prelu(x, kit.param(slope), y),
            lambda x, y, dy, dx: ops.prelu_backward(x, kit.param(slope), dy, dx, None),
        ),
        "prelu_shared": (
            lambda x, y: ops.prelu(x, kit.param(slope), y),
            lambda x, y, dy, dx: ops.prelu_backward(x, kit.param(slope), dy, dx, None),
        ),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["relu", "relu_leaky", "sigmoid", "tanh", "power", "power_one", "prelu",
     "prelu_shared"],
)  # fmt: skip
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    forward, backward = run_golden(kit, name, case)
    x, dy = kit.array(case["in/x"]), kit.array(case["out_diff/y"])
    y, dx = kit.empty(x.shape), kit.empty(x.shape)
    forward(x, y)
    backward(x, y, dy, dx)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
