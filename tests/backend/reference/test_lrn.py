from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.reference.lrn import inverse_power
from poseidon_caffe.errors import BackendError
from tests.backend.conftest import caffe_close
from tests.gradcheck import numeric_gradient

# x_shape, size, alpha, beta, k, across channels
CASES = {
    "alex": ((2, 16, 3, 4), 5, 1e-1, 0.75, 1.0, True),
    "beta_k": ((2, 7, 3, 4), 3, 0.5, 0.6, 2.0, True),
    "wider_than_channels": ((2, 3, 3, 4), 9, 0.5, 0.75, 1.0, True),
    "beta_one": ((1, 16, 2, 2), 5, 1.0, 1.0, 1.0, True),
    "within": ((2, 16, 4, 3), 3, 0.5, 0.75, 1.0, False),
    "within_ignores_k": ((2, 3, 4, 5), 5, 0.5, 0.5, 7.0, False),
    "no_images": ((0, 16, 3, 4), 5, 1e-4, 0.75, 1.0, True),
}


def naive(g, x):
    y = np.empty(g.x_shape)
    half = (g.size - 1) // 2
    for n, c, h, w in np.ndindex(*g.x_shape):
        if g.across_channels:
            part = x[n, max(c - half, 0) : c + half + 1, h, w]
            scale = g.k + g.alpha / g.size * (part**2).sum()
        else:
            rows = slice(max(h - half, 0), h + half + 1)
            part = x[n, c, rows, max(w - half, 0) : w + half + 1]
            scale = 1 + g.alpha / g.size**2 * (part**2).sum()
        y[n, c, h, w] = x[n, c, h, w] * scale**-g.beta
    return y


@cache
def expected(name):
    """(x, dy, y, gradient of the first image): worked out once for all backends."""
    g = LrnGeometry(*CASES[name])
    x, dy = np.random.default_rng(5).standard_normal((2, *g.x_shape))
    # Images do not meet: one is enough for the slow check.
    one = LrnGeometry((min(1, len(x)), *g.x_shape[1:]), *CASES[name][1:])
    slope = numeric_gradient(lambda v: float((naive(one, v) * dy[:1]).sum()), x[:1])
    return x, dy, naive(g, x), slope


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradient(kit, name, in_place):
    g = LrnGeometry(*CASES[name])
    x, dy, want, slope = expected(name)
    bottom, y = kit.array(x), kit.empty(g.x_shape)
    kernel = kit.ops.lrn(g)
    kernel.forward(bottom, y)
    kit.assert_close(y, want, loose=2)
    top = kit.array(dy)
    dx = top if in_place else kit.empty(g.x_shape)
    kernel.backward(bottom, y, top, dx)
    np.testing.assert_allclose(dx[:1], slope, rtol=2e-4, atol=2e-5)
    assert np.isfinite(dx).all()


def test_inverse_power_shortcut_is_the_power():
    x = np.linspace(0.3, 9, 50)
    np.testing.assert_allclose(inverse_power(x, 0.75), x**-0.75, rtol=1e-14)


def test_refusals():
    with pytest.raises(BackendError, match="odd local_size, not 4"):
        ReferenceOps().lrn(LrnGeometry((1, 2, 3, 3), 4, 1.0, 0.75, 1.0, True))
    kernel = ReferenceOps().lrn(LrnGeometry((1, 2, 3, 3), 3, 1.0, 0.75, 1.0, True))
    x = np.ones((1, 2, 3, 3))
    with pytest.raises(BackendError, match="needs a forward"):
        kernel.backward(x, x, x, x)


GOLDEN = {
    "lrn": (5, 1.0, 0.75, 1.0, True),
    "lrn_alex": (5, 1e-4, 0.75, 1.0, True),
    "lrn_size3": (3, 0.5, 0.6, 2.0, True),
    "lrn_within": (3, 0.05, 0.75, 1.0, False),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    x, dy = kit.array(case["in/x"]), kit.array(case["out_diff/y"])
    y, dx = kit.empty(x.shape), kit.empty(x.shape)
    kernel = kit.ops.lrn(LrnGeometry(x.shape, *GOLDEN[name]))
    kernel.forward(x, y)
    kernel.backward(x, y, dy, dx)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
