"""Convolution's settings, several bottoms, fusing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

FILL = 'weight_filler { type: "xavier" } bias_filler { value: 0.1 }'


def conv(text, *bottoms, **more):
    shapes = bottoms or ((2, 4, 6, 7),)
    run = build("Convolution", f"convolution_param {{ {text} {FILL} }}", shapes,
                num_top=len(shapes), **more)  # fmt: skip
    rng = np.random.default_rng(5)
    for blob in run.bottom:
        blob.data[...] = rng.standard_normal(blob.shape)
    return run


def naive(x, w, b, stride, pad):
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    k = w.shape[2]
    size = [(n - k) // stride + 1 for n in x.shape[2:]]
    y = np.empty((x.shape[0], w.shape[0], *size))
    for i, j in np.ndindex(*size):
        part = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        y[:, :, i, j] = np.einsum("nchw,ochw->no", part, w) + b
    return y


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_equals_its_definition(stride, pad):
    run = conv(f"num_output: 3 kernel_size: 3 stride: {stride} pad: {pad}")
    w, b = run.params()
    expected = naive(run.bottom[0].data, w, b, stride, pad)
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "weights", "top"),
    [
        ("kernel_size: 3", (4, 4, 3, 3), (2, 4, 4, 5)),
        ("kernel_size: 3 kernel_size: 2", (4, 4, 3, 2), (2, 4, 4, 6)),
        ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1", (4, 4, 3, 2), (2, 4, 2, 6)),
        ("kernel_size: 2 dilation: 2 dilation: 3", (4, 4, 2, 2), (2, 4, 4, 4)),
        ("kernel_size: 3 pad: 1 pad: 0 stride: 2", (4, 4, 3, 3), (2, 4, 3, 3)),
        ("kernel_size: 3 group: 2", (4, 2, 3, 3), (2, 4, 4, 5)),
        ("kernel_size: 3 force_nd_im2col: true engine: CUDNN", (4, 4, 3, 3),
         (2, 4, 4, 5)),
        ("kernel_size: 3 pad_h: 1", (4, 4, 3, 3), (2, 4, 6, 5)),
    ],
)  # fmt: skip
def test_shapes(text, weights, top):
    run = conv(f"num_output: 4 {text}")
    assert run.layer.blobs[0].shape == weights
    assert run.top[0].shape == top


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_output: 4", "needs kernel_size"),
        ("kernel_size: 3", "num_output"),
        ("num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3", "not both"),
        ("num_output: 4 kernel_h: 3", "given together"),
        ("num_output: 4 kernel_size: 0", "positive"),
        ("num_output: 4 kernel_size: 3 stride: 0", "positive"),
        ("num_output: 4 kernel_size: 3 kernel_size: 3 kernel_size: 3", "3 values"),
        ("num_output: 4 kernel_size: 3 group: 3", "must divide"),
        ("num_output: 3 kernel_size: 3 group: 2", "must divide"),
        ("num_output: 4 kernel_size: 9", "exceeds the padded input"),
    ],
)
def test_bad_settings_are_refused(text, message):
    with pytest.raises(LayerError, match=message) as caught:
        conv(text)
    assert 'layer "layer" (Convolution)' in str(caught.value)


def test_bottoms_of_different_shapes_are_named():
    with pytest.raises(ShapeError, match=r"b0: \(2, 4, 6, 7\), b1: \(2, 4, 6, 6\)"):
        conv("num_output: 4 kernel_size: 3", (2, 4, 6, 7), (2, 4, 6, 6))


def test_channels_must_stay():
    run = conv("num_output: 4 kernel_size: 3")
    run.bottom[0].reshape((2, 3, 6, 7))
    with pytest.raises(ShapeError, match="needs 4 channels"):
        run.reshape()


def test_bottoms_share_weights_and_add_their_gradients():
    shape = (2, 4, 6, 7)
    both = conv("num_output: 4 kernel_size: 3", shape, shape)
    total = [np.zeros(b.shape) for b in both.layer.blobs]
    for i in range(2):
        one = conv("num_output: 4 kernel_size: 3", shape)
        one.bottom[0].data[...] = both.bottom[i].data
        np.testing.assert_allclose(one.forward()[0], both.forward()[i], rtol=1e-5)
        one.top[0].diff[...] = 1 + i
        one.backward()
        total = [t + d for t, d in zip(total, one.param_diffs(), strict=True)]
    both.set_top_diffs([np.array(1), np.array(2)])
    both.backward()
    for got, expected in zip(both.param_diffs(), total, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_a_fused_relu_is_the_relu(slope):
    run = conv("num_output: 4 kernel_size: 3")
    plain = run.forward()[0]
    assert run.layer.can_fuse_relu
    run.layer.fuse_relu(slope)
    expected = np.maximum(plain, 0) + slope * np.minimum(plain, 0)
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-5, atol=1e-6)
    run.reshape()
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-5, atol=1e-6)


def test_changed_weights_are_seen_with_and_without_touch(cpu):
    run = conv("num_output: 4 kernel_size: 3", ops=cpu)
    first = run.forward()[0]
    w, b = run.params()
    run.set_params([2 * w, 2 * b])
    np.testing.assert_allclose(run.forward()[0], 2 * first, rtol=1e-4, atol=1e-5)
    # A user holds the array: no version tells of the change.
    for blob in run.layer.blobs:
        blob.exposed = True
        blob.data[...] *= 2
    np.testing.assert_allclose(run.forward()[0], 4 * first, rtol=1e-4, atol=1e-5)


def test_without_spatial_axes_it_is_a_product_at_each_place():
    """``axis: -1`` leaves none, and then kernel_size may be missing."""
    run = conv("num_output: 5 axis: -1", (2, 3, 4))
    w, b = run.params()
    assert w.shape == (5, 4)
    want = run.bottom[0].data @ w.T + b
    np.testing.assert_allclose(run.forward()[0], want, rtol=1e-5, atol=1e-6)


def test_a_window_may_stick_out_by_less_than_a_stride():
    """Caffe divides ints, which rounds (3 - 4) / 2 to 0."""
    run = conv("num_output: 2 kernel_size: 4 stride: 2", (1, 2, 3, 3))
    w, b = run.params()
    want = np.einsum("ochw,nchw->no", w[:, :, :3, :3], run.bottom[0].data) + b
    np.testing.assert_allclose(run.forward()[0][:, :, 0, 0], want, rtol=1e-5)
    with pytest.raises(ShapeError, match="exceeds"):
        conv("num_output: 2 kernel_size: 5 stride: 2", (1, 2, 3, 3))
