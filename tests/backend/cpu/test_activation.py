from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored

SHAPES = [(2, 64, 14, 14), (1, 3, 5, 7), (3, 16, 1, 1), (4, 1, 6, 6), (1, 20, 9, 1)]


def plain(values):
    return stored(values, channels_last=False)


LAYOUTS = [stored, plain, inside]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# name: (forward, derivative as a function of x)
FUNCTIONS = {
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "relu": (lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_layouts_meet_all_layouts(ops, rng, name, shape):
    forward, slope = FUNCTIONS[name]
    x, dy = rng.standard_normal((2, *shape))
    run, back = getattr(ops, name), getattr(ops, f"{name}_backward")
    for lay_x in LAYOUTS:
        for lay_y in LAYOUTS:
            y = lay_y(x * np.nan)
            run(lay_x(x), y)
            assert_near(y, forward(x), 2)
            dx = lay_x(x * np.nan)
            back(y, lay_x(dy), dx)
            assert_near(dx, dy * slope(x), 4)
            dx = lay_y(x * np.nan)
            back(y, lay_x(dy), dx)
            assert_near(dx, dy * slope(x), 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_place(ops, rng, name, layout):
    forward, slope = FUNCTIONS[name]
    x, dy = rng.standard_normal((2, 2, 32, 6, 6))
    both, top = layout(x), layout(dy)
    getattr(ops, name)(both, both)
    assert_near(both, forward(x), 2)
    getattr(ops, f"{name}_backward")(both, top, top)
    assert_near(top, dy * slope(x), 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5, 1.0, 2.0, -0.5])
def test_leaky(ops, rng, slope, layout):
    x, dy = rng.standard_normal((2, 2, 16, 5, 5))
    y, dx = layout(x * np.nan), layout(x * np.nan)
    ops.relu(layout(x), y, slope)
    assert_near(y, np.where(x > 0, x, slope * x))
    # A negative slope needs the input's sign, which the layer then gives.
    ops.relu_backward(y if slope >= 0 else layout(x), layout(dy), dx, slope)
    assert_near(dx, dy * np.where(x > 0, 1, slope))


def test_sizes_and_slopes_have_kernels_of_their_own(ops, rng):
    for _ in range(2):
        for count in (1, 7, 16, 1000):
            x = rng.standard_normal(count).astype(np.float32)
            for slope in (0.0, 0.25, 3.0):
                y = np.full(count, np.nan, np.float32)
                ops.relu(x, y, slope)
                assert_near(y, np.where(x > 0, x, slope * x))


def test_many_axes_and_few(ops, rng):
    for shape in [(), (5,), (3, 4), (2, 3, 4), (2, 3, 2, 3, 2), (2,) * 7, (0, 3, 4, 4)]:
        x = np.asarray(rng.standard_normal(shape), np.float32)
        y = np.full(shape, np.nan, np.float32)
        ops.tanh(x, y)
        assert_near(y, np.tanh(x.astype(float)), 2)


def test_double_precision(ops, rng):
    x, dy = rng.standard_normal((2, 3, 16, 4, 4))
    y, dx = np.empty_like(x), np.empty_like(x)
    ops.sigmoid(x, y)
    ops.sigmoid_backward(y, dy, dx)
    np.testing.assert_allclose(y, sigmoid(x), rtol=1e-14)
    np.testing.assert_allclose(dx, dy * y * (1 - y), rtol=1e-14)


def test_extremes(ops):
    x = np.array([-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf], np.float32)
    y = np.empty_like(x)
    ops.relu(x, y)
    assert y.tolist() == [0, 0, 0, 0, np.float32(1e30), np.inf]
    ops.sigmoid(x, y)
    assert y.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    ops.tanh(x, y)
    assert y.tolist() == [-1, -1, 0, 0, 1, 1]


@pytest.mark.parametrize("lay", LAYOUTS)
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, -0.5])
@pytest.mark.parametrize(("scale", "shift"), [(0.5, 3.0), (0.0, 2.0)])
def test_powers_are_as_the_reference(ops, slow, rng, power, scale, shift, lay):
    shape = (3, 16, 40, 41)
    x, dy = rng.uniform(-2, 2, shape), rng.standard_normal(shape)
    want, slope = np.empty(shape), np.empty(shape)
    slow.power(x, want, power, scale, shift)
    slow.power_backward(x, want, dy, slope, power, scale, shift)
    bottom, y, top = lay(x), stored(np.full(shape, np.nan)), stored(dy)
    ops.power(bottom, y, power, scale, shift)
    assert_near(y, want)
    ops.power_backward(bottom, y, top, top, power, scale, shift)
    assert_near(top, slope)
    same = stored(x)
    ops.power(same, same, power, scale, shift)
    assert_near(same, want)


@pytest.mark.parametrize("lay", LAYOUTS)
def test_a_mask_of_bytes(ops, rng, lay):
    shape = (3, 16, 40, 41)
    x, mask = rng.standard_normal(shape), rng.integers(0, 2, shape, np.uint8)
    for laid in (mask, np.moveaxis(np.moveaxis(mask, 1, -1).copy(), -1, 1)):
        y = stored(np.full(shape, np.nan))
        ops.dropout(lay(x), laid, 1.25, y)
        np.testing.assert_array_equal(y, x.astype(np.float32) * mask * np.float32(1.25))
        ops.dropout(y, laid, 1.0, y)
        np.testing.assert_array_equal(y, x.astype(np.float32) * mask * np.float32(1.25))
