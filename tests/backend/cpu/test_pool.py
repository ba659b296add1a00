from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError
from poseidon_caffe.layers.pooling import pooled_length
from tests.backend.cpu.conftest import assert_near, inside, stored, unset

# x_shape, output (H, W), kernel, stride, pad
CASES = {
    "alexnet": ((2, 96, 27, 27), (13, 13), (3, 3), (2, 2), (0, 0)),
    "googlenet ceil": ((1, 64, 28, 28), (14, 14), (3, 3), (2, 2), (0, 0)),
    "inception": ((2, 48, 14, 14), (14, 14), (3, 3), (1, 1), (1, 1)),
    "resnet": ((1, 64, 28, 28), (14, 14), (3, 3), (2, 2), (1, 1)),
    "lenet": ((4, 20, 24, 24), (12, 12), (2, 2), (2, 2), (0, 0)),
    "global": ((2, 64, 7, 7), (1, 1), (7, 7), (1, 1), (0, 0)),
    "one channel": ((2, 1, 9, 9), (5, 5), (3, 3), (2, 2), (1, 1)),
}


def geometry(name, method):
    x_shape, out, *rest = CASES[name]
    return PoolGeometry(x_shape, (*x_shape[:2], *out), *rest, method)


def expected(g, x, dy):
    kernel = ReferenceOps().pooling(g)
    y, dx = np.empty(g.y_shape), np.empty(g.x_shape)
    kernel.forward(x, y)
    kernel.backward(dy, dx)
    return y, dx


def computed(kernel, x, dy):
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    kernel.forward(x, y)
    kernel.backward(dy, dx)
    return y, dx


def values(g, seed=0):
    rng = np.random.default_rng(seed)
    # Distinct in float32 too, so that the winners of windows are the same.
    x = rng.permutation(np.prod(g.x_shape)).reshape(g.x_shape).astype(float)
    return x - x.mean(), rng.standard_normal(g.y_shape)


@pytest.mark.parametrize("method", ["max", "ave"])
@pytest.mark.parametrize("name", CASES)
def test_shapes_of_published_nets(ops, name, method):
    g = geometry(name, method)
    x, dy = values(g)
    want = expected(g, x, dy)
    kernel = ops.pooling(g)
    for last in (True, False, True):
        got = computed(kernel, *(stored(a, channels_last=last) for a in (x, dy)))
        for a, b in zip(got, want, strict=True):
            assert_near(a, b)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["max", "ave"]),
    channels=st.sampled_from([1, 3, 8, 16, 20]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    floor=st.booleans(),
    last=st.booleans(),
)
def test_any_window(method, channels, size, kernel, stride, pad, floor, last):
    """Ceil rounding lets windows overstep: the mean divides by what is inside."""
    ops = get_ops("cpu", 2)
    if ops.name != "cpu":
        pytest.skip(ops.note)
    pad = tuple(min(p, k - 1) for p, k in zip(pad, kernel, strict=True))
    out = [
        pooled_length(n, k, s, p, floor=floor, clip=any(pad))
        for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
    ]
    if min(out) < 1:
        return
    if method == "ave" and any(
        (o - 1) * s - p >= n + p
        for o, s, p, n in zip(out, stride, pad, size, strict=True)
    ):
        return  # Caffe divides by zero there
    g = PoolGeometry(
        (2, channels, *size), (2, channels, *out), kernel, stride, pad, method
    )
    x, dy = values(g)
    kernel_ops = ops.pooling(g)
    got = computed(kernel_ops, *(stored(a, channels_last=last) for a in (x, dy)))
    for a, b in zip(got, expected(g, x, dy), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("last", [False, True])
def test_the_gradient_given_is_not_changed(ops, last):
    """The factors of overstepping windows go into a copy."""
    g = geometry("googlenet ceil", "ave")
    x, dy = (stored(a, channels_last=last) for a in values(g))
    kept = dy.copy()
    computed(ops.pooling(g), x, dy)
    np.testing.assert_array_equal(dy, kept)


def test_winners_belong_to_the_last_forward(ops):
    g = geometry("alexnet", "max")
    kernel = ops.pooling(g)
    for seed in (1, 2):
        x, dy = values(g, seed)
        got = computed(kernel, stored(x), stored(dy))
        assert_near(got[1], expected(g, x, dy)[1])


def test_kernels_keep_their_winners_apart(ops):
    g = geometry("resnet", "max")
    runs = [(ops.pooling(g), *values(g, seed)) for seed in (1, 2)]
    for kernel, x, _ in runs:
        kernel.forward(stored(x), unset(g.y_shape))
    for kernel, x, dy in runs:
        kernel.backward(stored(dy), dx := unset(g.x_shape))
        assert_near(dx, expected(g, x, dy)[1])


@pytest.mark.parametrize("method", ["max", "ave"])
def test_slices_of_wider_arrays(ops, method):
    g = geometry("inception", method)
    x, dy = values(g)
    want = expected(g, x, dy)
    kernel = ops.pooling(g)
    for a, b in zip(computed(kernel, inside(x), inside(dy)), want, strict=True):
        assert_near(a, b)
    # And back to dense arrays, whose winners the library remembers.
    for a, b in zip(computed(kernel, stored(x), stored(dy)), want, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("method", ["max", "ave"])
@pytest.mark.parametrize("name", ["inception", "googlenet ceil", "one channel"])
def test_gradients_may_lie_otherwise_than_values(ops, name, method):
    g = geometry(name, method)
    x, dy = values(g)
    want = expected(g, x, dy)[1]

    def plain(values):
        return stored(values, channels_last=False)

    kernel = ops.pooling(g)
    for forward in (stored, plain, inside):
        kernel.forward(forward(x), forward(np.zeros(g.y_shape)))
        for top in (stored, plain, inside):
            for bottom in (stored, plain, inside):
                kernel.backward(top(dy), dx := bottom(np.full(g.x_shape, np.nan)))
                assert_near(dx, want)


def test_backward_alone_is_refused(ops):
    g = geometry("resnet", "max")
    with pytest.raises(BackendError, match="forward"):
        ops.pooling(g).backward(unset(g.y_shape), unset(g.x_shape))


def test_a_mask_given_in_one_call_only(ops):
    g = geometry("resnet", "max")
    x, dy = values(g)
    y, mask, dx = unset(g.y_shape), unset(g.y_shape), unset(g.x_shape)
    kernel = ops.pooling(g)
    kernel.forward(stored(x), y, mask)
    kernel.backward(stored(dy), dx, mask)
    assert_near(dx, expected(g, x, dy)[1])
    flat = x.reshape(*x.shape[:2], -1)
    picked = np.take_along_axis(flat, mask.reshape(*x.shape[:2], -1).astype(int), 2)
    assert_near(picked.reshape(y.shape), y)
    assert_near(computed(kernel, stored(x), stored(dy))[1], expected(g, x, dy)[1])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_mask_and_gradient_by_it(ops, slow, rng, name, channels_last):
    """With ties, and with planes whose windows nobody wins."""
    g = geometry(name, "max")
    x = rng.integers(0, 3, g.x_shape).astype(float)
    x[0, -1] = -np.inf
    dy = rng.standard_normal(g.y_shape)
    y, mask = (unset(g.y_shape, channels_last=channels_last) for _ in range(2))
    dx = unset(g.x_shape, channels_last=channels_last)
    kernel, other = ops.pooling(g), slow.pooling(g)
    kernel.forward(stored(x, channels_last=channels_last), y, mask)
    kernel.backward(stored(dy, channels_last=channels_last), dx, mask)
    want, places, back = np.empty(g.y_shape), np.empty(g.y_shape), np.empty(g.x_shape)
    other.forward(x, want, places)
    other.backward(dy, back, places)
    np.testing.assert_array_equal(mask, places)
    assert_near(y[:, :-1], want[:, :-1])
    assert (y[0, -1] == np.finfo(np.float32).min).all()
    assert_near(dx, back)
    # The gradient follows what a user writes into the mask.
    mask[...] = places[...] = np.maximum(places[..., ::-1], 0)
    kernel.backward(stored(dy, channels_last=channels_last), dx, mask)
    other.backward(dy, back, places)
    assert_near(dx, back)
