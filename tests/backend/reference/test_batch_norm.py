from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import BackendError
from tests.backend.conftest import caffe_close
from tests.gradcheck import numeric_gradient

SHAPES = [(4, 16, 3, 5), (3, 3, 4, 4), (8, 5), (2, 4, 3, 2, 2), (6, 3, 7)]
EPS = 1e-3


def spread(values, ndim):
    return values.reshape(1, -1, *[1] * (ndim - 2))


def outer(x):
    return tuple(i for i in range(x.ndim) if i != 1)


def naive(x, scale=None, shift=None, moments=None):
    mean, var = moments or (x.mean(outer(x)), x.var(outer(x)))
    y = (x - spread(mean, x.ndim)) / np.sqrt(spread(var, x.ndim) + EPS)
    if scale is not None:
        y = y * spread(scale, x.ndim) + spread(shift, x.ndim)
    return y


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_moments(kit, rng, shape, affine, in_place):
    x, dy = rng.standard_normal(shape) + 3, rng.standard_normal(shape)
    scale, shift = rng.standard_normal((2, shape[1])) if affine else (None, None)
    params = [kit.param(p) for p in (scale, shift)] if affine else [None, None]
    mean, var = kit.empty_param(shape[1]), kit.empty_param(shape[1])
    bottom = kit.array(x)
    y = bottom if in_place else kit.empty(shape)
    kernel = kit.ops.batch_norm(BatchNormGeometry(shape, EPS, False, affine))
    kernel.forward(bottom, y, mean, var, *params)
    kit.assert_close(mean, x.mean(outer(x)), loose=4)
    kit.assert_close(var, x.var(outer(x)), loose=16)
    kit.assert_close(y, naive(x, scale, shift), loose=16)

    top = kit.array(dy)
    dx = top if in_place else kit.empty(shape)
    grads = [kit.empty_param(shape[1]) for _ in range(2)] if affine else [None, None]
    kernel.backward(bottom, top, dx, mean, var, params[0], *grads, in_place=in_place)
    loss = lambda *args: float((naive(*args) * dy).sum())  # noqa: E731
    want = numeric_gradient(lambda v: loss(v, scale, shift), x)
    np.testing.assert_allclose(dx, want, rtol=1e-3, atol=1e-4)
    if affine:
        kit.assert_close(grads[0], (dy * naive(x)).sum(outer(x)), loose=32)
        kit.assert_close(grads[1], dy.sum(outer(x)), loose=16)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_stored_moments(kit, rng, affine, relu, in_place):
    shape = (3, 16, 4, 5)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    mean, var = rng.standard_normal(16), rng.random(16) + 0.5
    scale, shift = rng.standard_normal((2, 16)) if affine else (None, None)
    params = [kit.param(p) for p in (scale, shift)] if affine else [None, None]
    stored = kit.param(mean), kit.param(var)
    bottom = kit.array(x)
    y = bottom if in_place else kit.empty(shape)
    kernel = kit.ops.batch_norm(BatchNormGeometry(shape, EPS, True, affine, relu))
    kernel.forward(bottom, y, *stored, *params)
    want = naive(x, scale, shift, (mean, var))
    kit.assert_close(y, np.maximum(want, 0) if relu else want, loose=8)
    kit.assert_close(stored[0], mean)
    kit.assert_close(stored[1], var)
    if relu:
        return
    top = kit.array(dy)
    dx = top if in_place else kit.empty(shape)
    grads = [kit.empty_param(16) for _ in range(2)] if affine else [None, None]
    kernel.backward(bottom, top, dx, *stored, params[0], *grads, in_place=in_place)
    factor = (scale if affine else 1) / np.sqrt(var + EPS)
    kit.assert_close(dx, dy * spread(factor, 4), loose=8)
    if affine:
        normed = naive(x, moments=(mean, var))
        kit.assert_close(grads[0], (dy * normed).sum(outer(x)), loose=16)
        kit.assert_close(grads[1], dy.sum(outer(x)), loose=16)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 4, 5), (9, 40, 7, 7), (6, 5)])
def test_gradient_through_a_relu(kit, rng, shape, stored, affine, in_place):
    """As of a batch norm alone, whose dy counts only where y > 0."""
    if not kit.ops.fuses_relu_backward:
        pytest.skip("this backend takes a ReLU in scoring only")
    x, dy = rng.standard_normal(shape) * 2 + 1, rng.standard_normal(shape)
    channels = shape[1]
    params = [kit.param(p) for p in rng.standard_normal((2, channels))]
    params = params if affine else [None, None]
    given = kit.param(rng.standard_normal(channels)), kit.param(rng.random(channels))
    results = []
    for relu in (False, True):
        moments = [np.array(m) for m in given]
        geometry = BatchNormGeometry(shape, EPS, stored, affine, relu)
        kernel = kit.ops.batch_norm(geometry)
        bottom = kit.array(x)
        y = bottom if in_place else kit.empty(shape)
        kernel.forward(bottom, y, *moments, *params)
        if not relu:
            passed = y > 0
        top = kit.array(dy if relu else dy * passed)
        dx = top if in_place else kit.empty(shape)
        grads = [kit.empty_param(channels) for _ in range(2)]
        grads = grads if affine else [None, None]
        kernel.backward(bottom, top, dx, *moments, params[0], *grads, in_place=in_place)
        results.append((np.maximum(y, 0), dx, *(g for g in grads if g is not None)))
    assert 0.2 < passed.mean() < 0.9
    for plain, rectified in zip(*results, strict=True):
        kit.assert_close(rectified, plain, loose=16)


def test_large_mean_keeps_its_variance(kit, rng):
    """Sums of squares would cancel: mean 1000, deviation 0.1."""
    x = rng.standard_normal((8, 16, 6, 6)) * 0.125 + 1024
    mean, var = kit.empty_param(16), kit.empty_param(16)
    y = kit.empty(x.shape)
    kernel = kit.ops.batch_norm(BatchNormGeometry(x.shape, 0.0, False))
    kernel.forward(kit.array(x), y, mean, var)
    np.testing.assert_allclose(var, x.var((0, 2, 3)), rtol=2e-2)


def test_empty_batch(kit):
    x = kit.empty((0, 16, 3, 3))
    mean, var = kit.empty_param(16), kit.empty_param(16)
    kernel = kit.ops.batch_norm(BatchNormGeometry(x.shape, EPS, False))
    kernel.forward(x, kit.empty(x.shape), mean, var)
    assert (mean == 0).all()
    assert (var == 0).all()
    kernel.backward(x, kit.empty(x.shape), kit.empty(x.shape), mean, var)


def test_backward_in_place_needs_forward_in_place(rng):
    x = rng.standard_normal((2, 3, 4, 4))
    kernel = ReferenceOps().batch_norm(BatchNormGeometry(x.shape, EPS, False))
    with pytest.raises(BackendError, match="in place"):
        kernel.backward(x, x, x, np.zeros(3), np.ones(3), in_place=True)


@pytest.mark.parametrize("name", ["train", "test", "train_global"])
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"batchnorm_{name}.npz")
    x, dy = kit.array(case["in/x"]), kit.array(case["out_diff/y"])
    y, dx = kit.empty(x.shape), kit.empty(x.shape)
    use_stored = name != "train"
    moments = kit.empty_param((2, 3))
    if use_stored:
        moments = kit.param(np.stack([case["param/0"], case["param/1"]]))
        moments /= case["param/2"]
    kernel = kit.ops.batch_norm(BatchNormGeometry(x.shape, 1e-5, use_stored))
    kernel.forward(x, y, *moments)
    kernel.backward(x, dy, dx, *moments)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
