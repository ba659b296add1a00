from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps

SHAPES = [(2, 16, 5, 7), (3, 5), (0, 3, 2, 2), (2, 32, 40, 40)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forwards(kit, run, x, want):
    """Out of place and in place, on an array and on a slice of a wider one."""
    bottom, top = kit.array(x), kit.empty(x.shape)
    run(bottom, top)
    kit.assert_close(top, want, loose=8)
    both = kit.array(x)
    run(both, both)
    kit.assert_close(both, want, loose=8)
    if x.ndim == 4 and len(x):
        wide = kit.array(np.concatenate([x, x + 1], axis=1))
        part, top = wide[:, : x.shape[1]], kit.empty(x.shape)
        run(part, top)
        kit.assert_close(top, want, loose=8)


def backwards(kit, run, dy, want):
    """``run(dy, dx)`` out of place and in place."""
    given, dx = kit.array(dy), kit.empty(dy.shape)
    run(given, dx)
    kit.assert_close(dx, want, loose=8)
    run(given, given)
    kit.assert_close(given, want, loose=8)


@pytest.fixture(params=SHAPES, ids=str)
def pair(request, rng):
    return rng.standard_normal((2, *request.param)) * 2


def test_absolute(kit, pair):
    x, dy = pair
    x.reshape(-1)[:2] = 0
    forwards(kit, kit.ops.absolute, x, np.abs(x))
    bottom = kit.array(x)
    backwards(
        kit,
        lambda dy, dx: kit.ops.absolute_backward(bottom, dy, dx),
        dy,
        dy * np.sign(x),
    )


def test_bnll(kit, pair):
    x, dy = pair
    forwards(kit, kit.ops.bnll, x, np.log1p(np.exp(x)))
    bottom = kit.array(x)
    backwards(
        kit, lambda dy, dx: kit.ops.bnll_backward(bottom, dy, dx), dy, dy * sigmoid(x)
    )


def test_bnll_of_large_numbers(kit):
    x = kit.array([[-1000.0, -90.0, 90.0, 1000.0]])
    y = kit.empty((1, 4))
    kit.ops.bnll(x, y)
    kit.assert_close(y, [[0, 0, 90, 1000]])
    kit.ops.bnll_backward(x, kit.array(np.ones((1, 4))), y)
    kit.assert_close(y, [[0, 0, 1, 1]])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.5), (0.0, 6.0), (2.0, 2.0)])
def test_clip(kit, pair, low, high):
    x, dy = pair
    x.reshape(-1)[:2] = (low, high)[: x.size]
    forwards(kit, lambda x, y: kit.ops.clip(x, y, low, high), x, np.clip(x, low, high))
    bottom, inside = kit.array(x), (x >= low) & (x <= high)
    backwards(
        kit,
        lambda dy, dx: kit.ops.clip_backward(bottom, dy, dx, low, high),
        dy,
        dy * inside,
    )


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0, -0.5])
def test_elu(kit, pair, alpha):
    x, dy = pair
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    forwards(kit, lambda x, y: kit.ops.elu(x, y, alpha), x, y)
    bottom, top = kit.array(x), kit.array(y)
    backwards(
        kit,
        lambda dy, dx: kit.ops.elu_backward(bottom, top, dy, dx, alpha),
        dy,
        np.where(x > 0, dy, dy * (y + alpha)),
    )


@pytest.mark.parametrize(("inner", "outer"), [(1.0, 1.0), (-0.7, 1.0), (0.5, 3.0)])
def test_exponential(kit, pair, inner, outer):
    x, dy = pair
    y = outer * np.exp(inner * x)
    forwards(kit, lambda x, y: kit.ops.exponential(x, y, inner, outer), x, y)
    top = kit.array(y)
    backwards(
        kit,
        lambda dy, dx: kit.ops.exponential_backward(top, dy, dx, inner),
        dy,
        dy * y * inner,
    )


@pytest.mark.parametrize(
    ("scale", "shift", "factor"), [(1.0, 0.0, 1.0), (2.0, 1.0, 1.4), (1.0, 0.5, 1.0)]
)
def test_logarithm(kit, pair, scale, shift, factor):
    x, dy = np.abs(pair[0]) + 0.1, pair[1]
    settings = (scale, shift, factor)
    want = factor * np.log(scale * x + shift)
    forwards(kit, lambda x, y: kit.ops.logarithm(x, y, *settings), x, want)
    bottom = kit.array(x)
    backwards(
        kit,
        lambda dy, dx: kit.ops.logarithm_backward(bottom, dy, dx, *settings),
        dy,
        dy * factor * scale / (scale * x + shift),
    )


def test_logarithm_of_what_has_none(kit):
    y = kit.empty((1, 2))
    kit.ops.logarithm(kit.array([[-1.0, 0.0]]), y, 1.0, 0.0, 1.0)
    assert np.isnan(y[0, 0])
    assert y[0, 1] == -np.inf


@pytest.mark.parametrize("beta", [1.0, 1.7, -0.4])
def test_swish(kit, pair, beta):
    x, dy = pair
    s = sigmoid(beta * x)
    y = x * s
    forwards(kit, lambda x, y: kit.ops.swish(x, y, beta), x, y)
    bottom, top = kit.array(x), kit.array(y)
    backwards(
        kit,
        lambda dy, dx: kit.ops.swish_backward(bottom, top, dy, dx, beta),
        dy,
        dy * (beta * y + s * (1 - beta * y)),
    )


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_threshold(kit, pair, limit):
    x, _ = pair
    x.reshape(-1)[:1] = limit
    forwards(kit, lambda x, y: kit.ops.threshold(x, y, limit), x, 1.0 * (x > limit))


@pytest.mark.parametrize("name", ["elu", "bnll", "swish"])
def test_scalar_blobs(name):
    """A reduction's top has no axes; NumPy then makes numbers of arrays."""
    ops, more = ReferenceOps(), {"elu": (1.0,), "bnll": (), "swish": (2.0,)}[name]
    scalar, pair = np.full((), -0.5, np.float32), np.full(2, -0.5, np.float32)
    y, both = np.empty_like(scalar), np.empty_like(pair)
    getattr(ops, name)(scalar, y, *more)
    getattr(ops, name)(pair, both, *more)
    assert y == both[0]
    dx, dboth = np.empty_like(scalar), np.empty_like(pair)
    given = {"bnll": [(scalar, scalar), (pair, pair)]}.get(
        name, [(scalar, y, scalar), (pair, both, pair)]
    )
    getattr(ops, f"{name}_backward")(*given[0], dx, *more)
    getattr(ops, f"{name}_backward")(*given[1], dboth, *more)
    assert dx == dboth[0]
