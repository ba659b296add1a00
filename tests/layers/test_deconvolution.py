"""Deconvolution against its definition and against Convolution."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

FILL = 'weight_filler { type: "xavier" } bias_filler { value: 0.3 }'


def deconv(text, *bottoms, fill=FILL, **more):
    shapes = bottoms or ((2, 4, 3, 5),)
    run = build("Deconvolution", f"convolution_param {{ {text} {fill} }}", shapes,
                num_top=len(shapes), **more)  # fmt: skip
    rng = np.random.default_rng(5)
    for blob in run.bottom:
        blob.data[...] = rng.standard_normal(blob.shape)
    return run


def naive(x, w, b, stride, pad, dilation):
    k = w.shape[2]
    size = [stride * (n - 1) + dilation * (k - 1) + 1 for n in x.shape[2:]]
    y = np.zeros((x.shape[0], w.shape[1], *size)) + b[:, None, None]
    for i, j in np.ndindex(*x.shape[2:]):
        for p, q in np.ndindex(k, k):
            at = (stride * i + dilation * p, stride * j + dilation * q)
            y[:, :, at[0], at[1]] += x[:, :, i, j] @ w[:, :, p, q]
    return y[:, :, pad : size[0] - pad, pad : size[1] - pad]


@pytest.mark.parametrize(
    ("stride", "pad", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 0, 2), (1, 2, 3)]
)
def test_equals_its_definition(stride, pad, dilation):
    run = deconv(
        f"num_output: 3 kernel_size: 3 stride: {stride} pad: {pad} dilation: {dilation}"
    )
    w, b = run.params()
    assert w.shape == (4, 3, 3, 3)
    expected = naive(run.bottom[0].data, w, b, stride, pad, dilation)
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "weights", "top"),
    [
        ("num_output: 6 kernel_size: 3 group: 2", (4, 3, 3, 3), (2, 6, 5, 7)),
        ("num_output: 4 kernel_size: 4 group: 4 stride: 2 pad: 1", (4, 1, 4, 4),
         (2, 4, 6, 10)),
        ("num_output: 2 kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1",
         (4, 2, 1, 3), (2, 2, 5, 7)),
        ("num_output: 3 kernel_size: 1 bias_term: false", (4, 3, 1, 1), (2, 3, 3, 5)),
    ],
)  # fmt: skip
def test_shapes(text, weights, top):
    run = deconv(text)
    assert run.layer.blobs[0].shape == weights
    assert run.top[0].shape == top
    assert len(run.layer.blobs) == 1 + ("bias_term" not in text)


def test_groups_are_apart():
    run = deconv("num_output: 6 kernel_size: 3 group: 2")
    before = run.forward()[0]
    run.bottom[0].data[:, 2:] += 1
    after = run.forward()[0]
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any()


def test_bilinear_weights_keep_a_ramp():
    fill = 'bias_term: false weight_filler { type: "bilinear" }'
    text = "num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2"
    run = deconv(text, (1, 2, 5, 6), fill=fill)
    run.bottom[0].data[...] = np.arange(6.0)
    y = run.forward()[0]
    np.testing.assert_allclose(y[0, 1, 4, 1:-1], np.arange(10) * 0.5 + 0.25, rtol=1e-6)


def test_is_the_gradient_of_convolution():
    run = deconv("num_output: 3 kernel_size: 3 stride: 2 bias_term: false")
    y = run.forward()[0]
    other = build(
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 stride: 2 bias_term: false }",
        [y.shape],
    )
    other.set_params(run.params())
    other.top[0].diff[...] = run.bottom[0].data
    np.testing.assert_allclose(other.backward()[0], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel_size: 3", "num_output"),
        ("num_output: 4", "needs kernel_size"),
        ("num_output: 3 kernel_size: 3 group: 2", "must divide"),
        ("num_output: 3 kernel_size: 1 pad: 2", "output would be"),
    ],
)
def test_bad_settings_are_refused(text, message):
    with pytest.raises(LayerError, match=message):
        deconv(text)


def test_channels_must_stay():
    run = deconv("num_output: 3 kernel_size: 3")
    run.bottom[0].reshape((2, 5, 3, 5))
    with pytest.raises(ShapeError, match="needs 4 channels"):
        run.reshape()
