"""InnerProduct's axes, factors and fusing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.half import BFLOAT16, HALF
from poseidon_caffe.errors import LayerError, ShapeError
from tests.backend.gpu.storage import here
from tests.devices import gpu_ops
from tests.layers.harness import build, fill_bottoms

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


def test_factors_are_those_of_the_last_backward_until_the_next_forward():
    run = product()
    run.forward()
    run.set_top_diffs([np.ones((3, 4))])
    run.backward()
    assert run.layer.factors() is not None
    run.forward()
    assert run.layer.factors() is None


def test_parameters_that_learn_nothing_keep_no_factors():
    run = product()
    run.layer.param_propagate_down = [False, False]
    run.forward()
    run.backward()
    assert run.layer.factors() is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_deferred_gradient_is_left_to_who_has_the_factors(channels_last, bias):
    text = "" if bias else "bias_term: false"
    plain, run = (product(text, channels_last=channels_last) for _ in range(2))
    dy = np.random.default_rng(6).standard_normal((3, 4))
    assert not run.layer.defer_gradient
    run.layer.defer_gradient = True
    for blob in run.layer.blobs:
        blob.diff[...] = 7
    for each in (plain, run):
        each.forward()
        each.set_top_diffs([dy])
    np.testing.assert_array_equal(run.backward()[0], plain.backward()[0])
    assert all(np.all(d == 7) for d in run.param_diffs())
    dy, x = run.layer.factors()
    made = [dy.T @ x, dy.sum(axis=0)]
    for got, want in zip(made, plain.param_diffs(), strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_deferred_gradient_stays_lazily_zero():
    run = product()
    run.layer.defer_gradient = True
    run.clear_param_diffs()
    run.forward()
    run.backward()
    assert run.layer.blobs[0].gradient_target()[1] is False


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


@pytest.mark.parametrize("dtype", [BFLOAT16, HALF])
def test_factors_of_16_bits_are_told_in_float32(dtype):
    fill = "inner_product_param { num_output: 3 }"
    run = build("InnerProduct", fill, [(2, 4)], ops=gpu_ops(), stored=dtype)
    fill_bottoms(run, [np.arange(8.0).reshape(2, 4) / 4])
    run.forward()
    run.set_top_diffs([np.arange(6.0).reshape(2, 3) / 8])
    run.backward()
    dy, x = run.layer.factors()
    assert dy.dtype == x.dtype == np.float32
    np.testing.assert_array_equal(here(dy), np.arange(6.0).reshape(2, 3) / 8)
    np.testing.assert_array_equal(here(x), np.arange(8.0).reshape(2, 4) / 4)
