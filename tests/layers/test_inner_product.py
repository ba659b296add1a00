"""InnerProduct's axes, factors and fusing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

FILL = 'num_output: 4 weight_filler { type: "xavier" } bias_filler { value: 0.5 }'


def product(text="", shape=(3, 2, 2, 3), **more):
    run = build("InnerProduct", f"inner_product_param {{ {FILL} {text} }}", [shape],
                **more)  # fmt: skip
    run.bottom[0].data[...] = np.random.default_rng(5).standard_normal(shape)
    return run


@pytest.mark.parametrize("channels_last", [False, True])
def test_flattens_in_c_order_whatever_the_memory(channels_last):
    run = product(channels_last=channels_last)
    w, b = run.params()
    x = run.bottom[0].data.reshape(3, -1)
    np.testing.assert_allclose(run.forward()[0], x @ w.T + b, rtol=1e-5)


def test_transposed_weights():
    run = product("transpose: true")
    w, b = run.params()
    assert w.shape == (12, 4)
    x = run.bottom[0].data.reshape(3, -1)
    np.testing.assert_allclose(run.forward()[0], x @ w + b, rtol=1e-5)
    assert run.layer.factors() is None


@pytest.mark.parametrize(
    ("axis", "k", "top"), [(2, 6, (3, 2, 4)), (-1, 3, (3, 2, 2, 4))]
)
def test_axis(axis, k, top):
    run = product(f"axis: {axis}")
    assert run.layer.blobs[0].shape == (4, k)
    assert run.top[0].shape == top


@pytest.mark.parametrize("channels_last", [False, True])
def test_factors_make_the_gradient(channels_last):
    run = product(channels_last=channels_last)
    assert run.layer.factors() is None
    run.forward()
    run.top[0].diff[...] = np.random.default_rng(6).standard_normal((3, 4))
    run.backward()
    dy, x = run.layer.factors()
    assert dy.shape == (3, 4)
    assert x.shape == (3, 12)
    np.testing.assert_allclose(dy.T @ x, run.layer.blobs[0].diff, rtol=1e-5)
    np.testing.assert_allclose(dy.sum(axis=0), run.layer.blobs[1].diff, rtol=1e-5)


def test_a_fused_relu_is_the_relu():
    run = product()
    plain = run.forward()[0]
    run.layer.fuse_relu(0.1)
    np.testing.assert_allclose(
        run.forward()[0], np.where(plain > 0, plain, 0.1 * plain), rtol=1e-5
    )


def test_num_output_is_needed():
    with pytest.raises(LayerError, match="num_output"):
        build("InnerProduct", "", [(2, 3)])


def test_inner_size_must_stay():
    run = product()
    run.bottom[0].reshape((3, 2, 2, 4))
    with pytest.raises(ShapeError, match=r"needs 12 inputs.*b0: \(3, 2, 2, 4\)"):
        run.reshape()
