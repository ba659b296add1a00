from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from tests.backend.conftest import caffe_close

ONE, TWO = (1, 1), (2, 2)
# x_shape, num_output, kernel, stride, pad, dilation, group
CASES = {
    "3x3": ((2, 3, 6, 5), 4, (3, 3), ONE, (0, 0), ONE, 1),
    "pad_stride": ((2, 3, 7, 8), 4, (3, 3), TWO, ONE, ONE, 1),
    "rest_of_stride": ((1, 2, 8, 6), 3, (3, 3), (3, 2), (0, 0), ONE, 1),
    "dilated": ((2, 3, 9, 8), 4, (3, 3), ONE, TWO, TWO, 1),
    "rect": ((2, 3, 7, 8), 4, (1, 5), (2, 1), (0, 2), ONE, 1),
    "group": ((2, 4, 6, 6), 6, (3, 3), ONE, ONE, ONE, 2),
    "depthwise": ((2, 16, 6, 6), 16, (3, 3), TWO, ONE, ONE, 16),
    "1x1": ((3, 16, 5, 4), 32, ONE, ONE, (0, 0), ONE, 1),
    "1x1_stride": ((2, 16, 5, 4), 8, ONE, TWO, (0, 0), ONE, 1),
    "1x1_pad": ((2, 3, 4, 4), 5, ONE, ONE, ONE, ONE, 1),
    "16_channels": ((2, 16, 8, 8), 16, (5, 5), ONE, TWO, ONE, 1),
    "group_16": ((2, 32, 6, 6), 32, (3, 3), ONE, ONE, ONE, 2),
    "one_channel": ((3, 1, 12, 12), 20, (5, 5), ONE, (0, 0), ONE, 1),
    "whole_image": ((2, 8, 4, 4), 10, (4, 4), ONE, (0, 0), ONE, 1),
    "3d": ((2, 3, 4, 5, 6), 4, (2, 3, 3), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1),
    "1d": ((2, 3, 9), 4, (3,), (2,), (1,), (1,), 1),
    "no_images": ((0, 3, 6, 5), 4, (3, 3), ONE, ONE, ONE, 1),
}


def geometry_of(name, relu=None):
    return ConvGeometry(*CASES[name], relu=relu)


def taps(g):
    """(output place, input place, weight place) of every product, padding left out."""
    for out in np.ndindex(*g.y_shape[2:]):
        for tap in itertools.product(*map(range, g.kernel)):
            place = tuple(
                o * s - p + t * d
                for o, t, s, p, d in zip(
                    out, tap, g.stride, g.pad, g.dilation, strict=True
                )
            )
            if all(0 <= i < n for i, n in zip(place, g.x_shape[2:], strict=True)):
                yield (..., *out), (..., *place), (..., *tap)


def halves(g):
    """(output channels, input channels) of each group."""
    outs, ins = g.num_output // g.group, g.x_shape[1] // g.group
    for i in range(g.group):
        yield slice(i * outs, (i + 1) * outs), slice(i * ins, (i + 1) * ins)


def naive_forward(g, x, w, b):
    y = np.zeros(g.y_shape)
    y += b.reshape(-1, *[1] * len(g.kernel))
    for out, place, tap in taps(g):
        for o, i in halves(g):
            y[out][:, o] += x[place][:, i] @ w[tap][o].T
    return y


def naive_backward(g, x, w, dy):
    dx, dw = np.zeros(g.x_shape), np.zeros(g.w_shape)
    for out, place, tap in taps(g):
        for o, i in halves(g):
            dx[place][:, i] += dy[out][:, o] @ w[tap][o]
            dw[tap][o] += dy[out][:, o].T @ x[place][:, i]
    return dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)))


def values(g, rng):
    return (
        rng.standard_normal(g.x_shape),
        rng.standard_normal(g.w_shape),
        rng.standard_normal(g.num_output),
        rng.standard_normal(g.y_shape),
    )


@pytest.mark.parametrize("name", CASES)
def test_forward_is_the_sum_of_products(kit, rng, name):
    g = geometry_of(name)
    x, w, b, _ = values(g, rng)
    y = kit.empty(g.y_shape)
    kernel = kit.ops.convolution(g)
    kernel.forward(kit.array(x), kit.param(w), kit.param(b), y)
    kit.assert_close(y, naive_forward(g, x, w, b), loose=4)
    kernel = kit.ops.convolution(ConvGeometry(*CASES[name], bias=False))
    kernel.forward(kit.array(x), kit.param(w), None, y)
    kit.assert_close(y, naive_forward(g, x, w, 0 * b), loose=4)


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_transpose(kit, rng, name):
    g = geometry_of(name)
    x, w, _, dy = values(g, rng)
    want_dx, want_dw, want_db = naive_backward(g, x, w, dy)
    dx, dw = kit.empty(g.x_shape), kit.empty_param(g.w_shape)
    db = kit.empty_param((g.num_output,))
    kernel = kit.ops.convolution(g)
    kernel.backward_data(kit.array(dy), kit.param(w), dx)
    kit.assert_close(dx, want_dx, loose=4)
    kernel.backward_weights(kit.array(x), kit.array(dy), dw, db, accumulate=False)
    kit.assert_close(dw, want_dw, loose=4)
    kit.assert_close(db, want_db, loose=4)


@pytest.mark.parametrize("name", ["pad_stride", "group_16", "1x1", "no_images"])
def test_weight_gradients_accumulate(kit, rng, name):
    g = geometry_of(name)
    x, w, b, dy = values(g, rng)
    _, want_dw, want_db = naive_backward(g, x, w, dy)
    dw, db = kit.param(w), kit.param(b)
    kernel = kit.ops.convolution(g)
    kernel.backward_weights(kit.array(x), kit.array(dy), dw, db, accumulate=True)
    kit.assert_close(dw, w + want_dw, loose=4)
    kit.assert_close(db, b + want_db, loose=4)
    dw[...] = w
    kernel.backward_weights(kit.array(x), kit.array(dy), dw, None, accumulate=True)
    kit.assert_close(dw, w + want_dw, loose=4)


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("name", ["3x3", "16_channels", "1x1"])
def test_fused_relu(kit, rng, name, slope):
    g = geometry_of(name, relu=slope)
    x, w, b, _ = values(g, rng)
    y = kit.empty(g.y_shape)
    kit.ops.convolution(g).forward(kit.array(x), kit.param(w), kit.param(b), y)
    want = naive_forward(g, x, w, b)
    kit.assert_close(y, np.where(want > 0, want, slope * want), loose=8)


@pytest.mark.parametrize("name", ["16_channels", "group", "1x1"])
def test_changed_weights_are_seen(kit, rng, name):
    """By a new key, and without a key always: packed weights must not be stale."""
    g = geometry_of(name)
    x, w, b, dy = values(g, rng)
    kernel = kit.ops.convolution(g)
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    weights = kit.param(w)
    for factor, key in ((1, 1), (2, 2), (3, None), (4, None), (5, 2**40)):
        weights[...] = factor * w
        kernel.forward(kit.array(x), weights, kit.param(0 * b), y, key)
        kernel.backward_data(kit.array(dy), weights, dx, key)
        kit.assert_close(y, factor * naive_forward(g, x, w, 0 * b), loose=4)
        kit.assert_close(dx, factor * naive_backward(g, x, w, dy)[0], loose=4)


def test_reads_and_writes_channel_slices(kit, rng):
    """Concat in place hands kernels a slice of a wider blob."""
    g = geometry_of("16_channels")
    x, w, b, dy = values(g, rng)
    wide_x, wide_y = kit.array(np.full((2, 40, 8, 8), 7.0)), kit.empty((2, 48, 8, 8))
    wide_x[:, 8:24] = x
    wide_y[...] = 5
    kernel = kit.ops.convolution(g)
    kernel.forward(wide_x[:, 8:24], kit.param(w), kit.param(b), wide_y[:, 16:32])
    kit.assert_close(wide_y[:, 16:32], naive_forward(g, x, w, b), loose=4)
    assert (wide_y[:, :16] == 5).all()
    assert (wide_y[:, 32:] == 5).all()
    wide_y[:, 16:32] = dy
    want_dx, want_dw, want_db = naive_backward(g, x, w, dy)
    dw, db = kit.empty_param(g.w_shape), kit.empty_param((16,))
    kernel.backward_weights(wide_x[:, 8:24], wide_y[:, 16:32], dw, db, accumulate=False)
    kernel.backward_data(wide_y[:, 16:32], kit.param(w), wide_x[:, 8:24])
    kit.assert_close(wide_x[:, 8:24], want_dx, loose=4)
    kit.assert_close(dw, want_dw, loose=4)
    kit.assert_close(db, want_db, loose=4)
    assert (wide_x[:, :8] == 7).all()
    assert (wide_x[:, 24:] == 7).all()


GOLDEN = {
    "conv_3x3": ((3, 3), ONE, (0, 0), ONE, 1),
    "conv_pad_stride": ((3, 3), TWO, ONE, ONE, 1),
    "conv_dilation": ((3, 3), ONE, TWO, TWO, 1),
    "conv_group2": ((3, 3), ONE, ONE, ONE, 2),
    "conv_rect": ((1, 5), (2, 1), (0, 2), ONE, 1),
    "conv_nd3d": ((2, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1), 1),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    x, w, b, dy = (case[k] for k in ("in/x", "param/0", "param/1", "out_diff/y"))
    g = ConvGeometry(x.shape, w.shape[0], *GOLDEN[name])
    kernel = kit.ops.convolution(g)
    y, dx = kit.empty(dy.shape), kit.empty(x.shape)
    dw, db = kit.empty_param(w.shape), kit.empty_param(b.shape)
    kernel.forward(kit.array(x), kit.param(w), kit.param(b), y)
    kernel.backward_data(kit.array(dy), kit.param(w), dx)
    kernel.backward_weights(kit.array(x), kit.array(dy), dw, db, accumulate=False)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
    assert caffe_close(dw, case["param_diff/0"])
    assert caffe_close(db, case["param_diff/1"])
