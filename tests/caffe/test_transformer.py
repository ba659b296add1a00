from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import PoseidonError, UsageError

RNG = np.random.default_rng(9)
SHAPE = (2, 3, 6, 5)


@pytest.fixture
def transformer():
    made = caffe.io.Transformer({"data": SHAPE, "gray": (1, 1, 6, 5)})
    made.set_transpose("data", (2, 0, 1))
    return made


def _set_all(transformer):
    transformer.set_channel_swap("data", (2, 0, 1))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([10.0, 20.0, 30.0]))
    transformer.set_input_scale("data", 0.5)


def test_all_steps_in_their_order(transformer):
    _set_all(transformer)
    image = RNG.random((6, 5, 3))
    out = transformer.preprocess("data", image)
    assert out.shape == SHAPE[1:]
    assert out.dtype == np.float32
    for channel, (source, mean) in enumerate([(2, 10), (0, 20), (1, 30)]):
        expected = (image[:, :, source] * 255 - mean) * 0.5
        np.testing.assert_allclose(out[channel], expected, rtol=1e-5, atol=1e-4)


def test_images_of_other_sizes_are_resized(transformer):
    image = RNG.random((12, 7, 3)).astype(np.float32)
    expected = caffe.io.resize_image(image, (6, 5)).transpose(2, 0, 1)
    np.testing.assert_array_equal(transformer.preprocess("data", image), expected)


def test_the_callers_image_stays_as_it_is(transformer):
    transformer.set_raw_scale("data", 255)
    image = np.ones((6, 5, 3), np.float32)
    transformer.preprocess("data", image)
    assert (image == 1).all()


@pytest.mark.parametrize("batched", [False, True])
def test_deprocess_is_the_inverse(transformer, batched):
    _set_all(transformer)
    image = RNG.random((6, 5, 3)).astype(np.float32)
    out = transformer.preprocess("data", image)
    before = out.copy()
    again = transformer.deprocess("data", out[np.newaxis] if batched else out)
    np.testing.assert_allclose(again, image, atol=1e-5)
    np.testing.assert_array_equal(out, before)


def test_deprocess_of_gray_images(transformer):
    values = RNG.random((1, 1, 6, 5)).astype(np.float32)
    assert transformer.deprocess("gray", values).shape == (6, 5)
    transformer.set_mean("gray", np.ones((6, 5)))
    np.testing.assert_allclose(
        transformer.deprocess("gray", values), values[0, 0] + 1, rtol=1e-6
    )
    transformer.set_transpose("gray", (2, 0, 1))
    assert transformer.deprocess("gray", values).shape == (6, 5, 1)
    with pytest.raises(PoseidonError, match="axes"):
        transformer.deprocess("data", np.zeros(SHAPE))


def test_mean_images(transformer):
    mean = RNG.random((3, 6, 5))
    transformer.set_mean("data", mean)
    np.testing.assert_array_equal(transformer.mean["data"], mean)
    out = transformer.preprocess("data", np.zeros((6, 5, 3)))
    np.testing.assert_allclose(out, -mean, rtol=1e-6)
    larger = RNG.random((3, 12, 10))
    transformer.set_mean("data", larger)
    expected = caffe.io.resize_image(larger.transpose(1, 2, 0), (6, 5))
    np.testing.assert_allclose(
        transformer.mean["data"], expected.transpose(2, 0, 1), rtol=1e-6
    )
    transformer.set_mean("gray", np.ones((12, 10)))
    assert transformer.mean["gray"].shape == (1, 6, 5)


@pytest.mark.parametrize(
    "shape", [(2,), (4, 6, 5), (6, 5), (1, 3, 6, 5), (), (1, 6, 5)]
)
def test_means_that_do_not_fit(transformer, shape):
    with pytest.raises(ValueError, match="mean") as caught:
        transformer.set_mean("data", np.zeros(shape))
    assert isinstance(caught.value, PoseidonError)


def test_wrong_settings(transformer):
    with pytest.raises(UsageError, match="'none' is not one of the net's inputs"):
        transformer.set_raw_scale("none", 1)
    for method, order in (
        (transformer.set_transpose, (1, 0)),
        (transformer.set_transpose, (0, 1, 3)),
        (transformer.set_channel_swap, (1, 0)),
    ):
        with pytest.raises(UsageError, match="data"):
            method("data", order)
    transformer.set_channel_swap("data", (2, 1, 7))
    with pytest.raises(PoseidonError, match="channels"):
        transformer.preprocess("data", np.zeros((6, 5, 3)))
    transformer.set_channel_swap("data", (2, 1, 0))
    with pytest.raises(PoseidonError, match="channels"):
        transformer.preprocess("data", np.zeros((6, 5, 1)))
    with pytest.raises(PoseidonError, match="3 axes"):
        transformer.preprocess("data", np.zeros((6, 5)))
    transformer.set_mean("data", np.zeros(3))
    transformer.channel_swap.clear()
    with pytest.raises(PoseidonError, match="does not fit"):
        transformer.preprocess("data", np.zeros((6, 5, 2)))
