from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops
from tests.backend.cpu.conftest import assert_near, inside, stored, unset

ONE, TWO, NO = (1, 1), (2, 2), (0, 0)
# Shapes of published nets, for which the library has kernels of their own.
# x_shape, num_output, kernel, stride, pad, dilation, group
CASES = {
    "alexnet conv1": ((1, 3, 67, 67), 96, (11, 11), (4, 4), NO, ONE, 1),
    "alexnet conv2": ((2, 96, 13, 13), 64, (5, 5), ONE, TWO, ONE, 2),
    "googlenet 7x7": ((2, 3, 46, 46), 64, (7, 7), TWO, (3, 3), ONE, 1),
    "vgg first": ((1, 3, 20, 20), 64, (3, 3), ONE, ONE, ONE, 1),
    "vgg 3x3": ((1, 64, 14, 14), 128, (3, 3), ONE, ONE, ONE, 1),
    "1x1": ((2, 64, 14, 14), 96, ONE, ONE, NO, ONE, 1),
    "1x1 small": ((1, 480, 4, 4), 16, ONE, ONE, NO, ONE, 1),
    "1x1 strided": ((2, 64, 15, 15), 128, ONE, TWO, NO, ONE, 1),
    "depthwise": ((2, 32, 15, 15), 32, (3, 3), ONE, ONE, ONE, 32),
    "depthwise strided": ((1, 24, 15, 14), 24, (3, 3), TWO, ONE, ONE, 24),
    "depthwise of two": ((2, 8, 9, 9), 16, (3, 3), ONE, ONE, ONE, 8),
    "groups of 4": ((2, 32, 10, 10), 64, (3, 3), ONE, ONE, ONE, 8),
    "lenet conv1": ((2, 1, 28, 28), 20, (5, 5), ONE, NO, ONE, 1),
    "lenet conv2": ((2, 20, 12, 12), 50, (5, 5), ONE, NO, ONE, 1),
    "dilated": ((1, 32, 15, 15), 32, (3, 3), ONE, TWO, TWO, 1),
    "16 to 17": ((3, 16, 9, 9), 17, (3, 3), ONE, ONE, ONE, 1),
    "fully connected": ((4, 32, 6, 6), 40, (6, 6), ONE, NO, ONE, 1),
    "1-d": ((2, 16, 20), 24, (3,), (1,), (1,), (1,), 1),
    "3-d": ((1, 16, 5, 8, 8), 16, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
}


def values(g, rng):
    x, w, b, dy = (
        rng.standard_normal(shape)
        for shape in (g.x_shape, g.w_shape, (g.num_output,), g.y_shape)
    )
    return x, w.astype(np.float32), b.astype(np.float32), dy


def expected(g, x, w, b, dy):
    """y, dx, dw, db of the plain implementation in float64."""
    kernel = ReferenceOps().convolution(g)
    y, dx, dw, db = (np.empty(a.shape) for a in (dy, x, w, b))
    kernel.forward(x, w.astype(float), b.astype(float), y)
    kernel.backward_data(dy, w.astype(float), dx)
    kernel.backward_weights(x, dy, dw, db, accumulate=False)
    return y, dx, dw, db


def computed(kernel, g, x, w, b, dy, key=None):
    """The same by ``kernel`` on arrays stored as ``x`` and ``dy`` are."""
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    kernel.forward(x, w, b, y, key)
    kernel.backward_data(dy, w, dx, key)
    kernel.backward_weights(x, dy, dw, db, accumulate=False)
    return y, dx, dw, db


def assert_all_near(got, want, times=1.0):
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, times)


@pytest.mark.parametrize("name", CASES)
def test_shapes_of_published_nets(ops, rng, name):
    g = ConvGeometry(*CASES[name])
    x, w, b, dy = values(g, rng)
    want = expected(g, x, w, b, dy)
    kernel = ops.convolution(g)
    got = computed(kernel, g, stored(x), w, b, stored(dy))
    assert_all_near(got, want, 2)
    # The same kernel serves the other order of memory in turn.
    plain = [stored(a, channels_last=False) for a in (x, dy)]
    assert_all_near(computed(kernel, g, plain[0], w, b, plain[1]), want, 2)
    again = computed(kernel, g, stored(x), w, b, stored(dy))
    for a, c in zip(again, got, strict=True):
        np.testing.assert_array_equal(a, c)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch=st.integers(1, 3),
    group=st.sampled_from([1, 1, 1, 2, 4]),
    ins=st.sampled_from([1, 2, 3, 8, 16]),
    outs=st.sampled_from([1, 3, 8, 16]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    extra=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 99),
)
def test_any_shape(batch, group, ins, outs, kernel, stride, pad, dilation, extra, seed):
    ops = get_ops("cpu", 2)
    if ops.name != "cpu":
        pytest.skip(ops.note)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(r - 2 * p, 1) + e for r, p, e in zip(reach, pad, extra, strict=True)]
    g = ConvGeometry(
        (batch, ins * group, *size), outs * group, kernel, stride, pad, dilation, group
    )
    x, w, b, dy = values(g, np.random.default_rng(seed))
    got = computed(ops.convolution(g), g, stored(x), w, b, stored(dy))
    assert_all_near(got, expected(g, x, w, b, dy), 4)


# -- weights are packed once per change --------------------------------------


@pytest.mark.parametrize("name", ["vgg 3x3", "1x1", "groups of 4", "depthwise"])
def test_weights_are_packed_again_when_their_version_changes(ops, rng, name):
    g = ConvGeometry(*CASES[name])
    x, w, b, dy = values(g, rng)
    x, dy, weights = stored(x), stored(dy), w.copy()
    kernel = ops.convolution(g)
    first = computed(kernel, g, x, weights, b, dy, key=1)
    weights *= 2
    # Under the same version the library keeps to what it has packed, where its own
    # order is not the plain one: whoever writes weights must say so (`Blob.touch`).
    stale = computed(kernel, g, x, weights, b, dy, key=1)
    np.testing.assert_array_equal(stale[0], first[0])
    np.testing.assert_array_equal(stale[1], first[1])
    for key in (2, None, 3, None):
        weights[...] = (key or 7) * w
        fresh = computed(kernel, g, x, weights, b, dy, key=key)
        want = expected(g, x, weights, b, dy)
        assert_all_near(fresh, want, 2)


def test_an_unseen_change_is_seen_without_a_version(ops, rng):
    g = ConvGeometry(*CASES["1x1"])
    x, w, b, dy = values(g, rng)
    x, dy = stored(x), stored(dy)
    kernel = ops.convolution(g)
    computed(kernel, g, x, w, b, dy, key=5)
    w *= 3
    assert_all_near(
        computed(kernel, g, x, w, b, dy, key=None), expected(g, x, w, b, dy), 2
    )
    w *= -1
    # What was packed without a version must not pass for version 5.
    assert_all_near(
        computed(kernel, g, x, w, b, dy, key=5), expected(g, x, w, b, dy), 2
    )


def test_forward_and_backward_pack_apart(ops, rng):
    g = ConvGeometry(*CASES["vgg 3x3"])
    x, w, b, dy = values(g, rng)
    x, dy, y, dx = stored(x), stored(dy), unset(g.y_shape), unset(g.x_shape)
    kernel = ops.convolution(g)
    kernel.forward(x, w, b, y, 1)
    kernel.backward_data(dy, w, dx, 1)
    w *= 2
    kernel.forward(x, w, b, y, 2)
    kernel.backward_data(dy, w, dx, 2)
    want = expected(g, x, w, b, dy)
    assert_all_near((y, dx), want[:2], 2)


# -- gradients of weights ----------------------------------------------------


@pytest.mark.parametrize("name", ["vgg 3x3", "1x1", "depthwise", "lenet conv1"])
def test_gradients_add_up_over_calls(ops, rng, name):
    g = ConvGeometry(*CASES[name])
    kernel = ops.convolution(g)
    dw, db = np.full(g.w_shape, np.nan, np.float32), np.full(g.num_output, np.nan, "f4")
    total_w, total_b = np.zeros(g.w_shape), np.zeros(g.num_output)
    for k in range(3):
        x, w, b, dy = values(g, rng)
        _, _, want_w, want_b = expected(g, x, w, b, dy)
        total_w, total_b = total_w + want_w, total_b + want_b
        last = k != 1
        x, dy = (stored(a, channels_last=last) for a in (x, dy))
        kernel.backward_weights(x, dy, dw, db, accumulate=k > 0)
        assert_near(dw, total_w, 4)
        assert_near(db, total_b, 4)


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_bias_gradient_may_be_left_out(ops, rng, accumulate):
    g = ConvGeometry(*CASES["16 to 17"])
    x, w, b, dy = values(g, rng)
    dw = w.copy()
    kernel = ops.convolution(g)
    kernel.backward_weights(stored(x), stored(dy), dw, None, accumulate=accumulate)
    want = expected(g, x, w, b, dy)[2]
    assert_near(dw, want + w if accumulate else want, 2)


def test_without_a_bias(ops, rng):
    case = CASES["vgg 3x3"]
    g = ConvGeometry(*case, bias=False)
    x, w, _, dy = values(g, rng)
    zero = np.zeros(g.num_output, np.float32)
    want = expected(ConvGeometry(*case), x, w, zero, dy)
    x, dy, y = stored(x), stored(dy), unset(g.y_shape)
    kernel = ops.convolution(g)
    kernel.forward(x, w, None, y)
    dw = np.full_like(w, np.nan)
    kernel.backward_weights(x, dy, dw, None, accumulate=False)
    assert_near(y, want[0], 2)
    assert_near(dw, want[2], 2)


# -- arrays that the library does not take -----------------------------------


def test_slices_of_wider_arrays(ops, rng):
    g = ConvGeometry(*CASES["16 to 17"])
    x, w, b, dy = values(g, rng)
    want = expected(g, x, w, b, dy)
    kernel = ops.convolution(g)
    x, dy, y, dx = parts = inside(x), inside(dy), inside(dy), inside(x)
    around = [(part.base == 9).sum() for part in parts]
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    kernel.forward(x, w, b, y)
    kernel.backward_data(dy, w, dx)
    kernel.backward_weights(x, dy, dw, db, accumulate=False)
    assert_all_near((y, dx, dw, db), want, 2)
    # What lies around the slices is not theirs.
    assert [(part.base == 9).sum() for part in parts] == around
    assert min(around) > 0


@pytest.mark.parametrize("which", ["x", "y"])
def test_one_slice_among_dense_arrays(ops, rng, which):
    g = ConvGeometry(*CASES["16 to 17"])
    x, w, b, dy = values(g, rng)
    want = expected(g, x, w, b, dy)
    on_x, on_y = (inside if which == name else stored for name in "xy")
    y, dx = on_y(dy), on_x(x)
    kernel = ops.convolution(g)
    kernel.forward(on_x(x), w, b, y)
    kernel.backward_data(on_y(dy), w, dx)
    assert_all_near((y, dx), want[:2], 2)


def test_double_precision(ops, rng):
    g = ConvGeometry(*CASES["16 to 17"])
    x, w, b, dy = (np.asarray(a, float) for a in values(g, rng))
    got = computed(ops.convolution(g), g, x, w, b, dy)
    for a, c in zip(got, expected(g, x, w, b, dy), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-10, atol=1e-10)


# -- kernels beside each other -----------------------------------------------


def test_kernels_in_turn_do_not_disturb_each_other(ops, rng):
    """They share scratch memory, whose size the largest of them sets."""
    runs = []
    for name in ("googlenet 7x7", "1x1", "depthwise", "vgg 3x3"):
        g = ConvGeometry(*CASES[name])
        x, w, b, dy = values(g, rng)
        runs.append((ops.convolution(g), g, stored(x), w, b, stored(dy)))
    alone = [computed(*run, key=1) for run in runs]
    for _ in range(2):
        for run, want in zip(reversed(runs), reversed(alone), strict=True):
            for a, c in zip(computed(*run, key=1), want, strict=True):
                np.testing.assert_array_equal(a, c)


def test_a_fused_relu_acts_in_forward_alone(ops, rng):
    case = CASES["vgg 3x3"]
    plain, fused = ConvGeometry(*case), ConvGeometry(*case, relu=0.1)
    x, w, b, dy = values(plain, rng)
    x, dy = stored(x), stored(dy)
    without = computed(ops.convolution(plain), plain, x, w, b, dy)
    within = computed(ops.convolution(fused), fused, x, w, b, dy)
    y = without[0]
    assert_near(within[0], np.where(y > 0, y, np.float32(0.1) * y))
    for a, c in zip(within[1:], without[1:], strict=True):
        assert_near(a, c)
