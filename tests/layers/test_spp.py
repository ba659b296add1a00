"""SPP beside the Pooling layers that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.layers.spp import level_geometry
from poseidon_caffe.types import Phase
from tests.layers.harness import build

SHAPE = (2, 3, 11, 16)


def spp(text, shape=SHAPE, **more):
    run = build("SPP", f"spp_param {{ {text} }}", [shape], **more)
    run.bottom[0].data[...] = np.random.default_rng(5).random(shape)
    return run


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_is_pooling_flattened_and_joined(method):
    run = spp(f"pyramid_height: 3 pool: {method}")
    parts = []
    for level in range(3):
        g = level_geometry(SHAPE, level, "max")
        names = {"kernel": g.kernel, "stride": g.stride, "pad": g.pad}.items()
        text = " ".join(f"{n}_h: {v[0]} {n}_w: {v[1]}" for n, v in names)
        pool = build("Pooling", f"pooling_param {{ pool: {method} {text} }}", [SHAPE])
        pool.bottom[0].data[...] = run.bottom[0].data
        parts.append(pool.forward()[0].reshape(2, -1))
    y = run.forward()[0]
    assert y.shape == (2, 3 * (1 + 4 + 16))
    np.testing.assert_allclose(y, np.concatenate(parts, axis=1), rtol=1e-5)


def test_one_level_keeps_four_axes():
    run = spp("pyramid_height: 1")
    x = run.bottom[0].data
    np.testing.assert_array_equal(run.forward()[0], x.max(axis=(2, 3), keepdims=True))


def test_the_length_is_one_for_all_sizes():
    run = spp("pyramid_height: 3")
    for size in ((8, 8), (12, 7), (16, 20)):
        run.bottom[0].reshape((2, 3, *size))
        run.reshape()
        assert run.top[0].shape == (2, 63)


def test_windows():
    g = level_geometry((1, 1, 13, 7), 2, "ave")
    assert (g.kernel, g.pad, g.y_shape) == ((4, 2), (2, 1), (1, 1, 4, 4))


def test_stochastic_samples_and_resumes():
    run = spp("pyramid_height: 2 pool: STOCHASTIC", (2, 3, 8, 8))
    run.forward()
    state = run.layer.state()
    once = run.forward()[0]
    other = run.forward()[0]
    assert (once != other).any()
    assert set(once[:, :3].ravel()) <= set(run.bottom[0].data.ravel())
    run.layer.restore_state(state)
    np.testing.assert_array_equal(run.forward()[0], once)
    test = spp("pyramid_height: 2 pool: STOCHASTIC", (2, 3, 8, 8), phase=Phase.TEST)
    x = test.bottom[0].data
    mean = (x**2).sum(axis=(2, 3)) / x.sum(axis=(2, 3))
    np.testing.assert_allclose(test.forward()[0][:, :3], mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("", SHAPE, "pyramid_height must be given"),
        ("pyramid_height: 3", (1, 1, 5, 5), "the image is too small"),
        ("pyramid_height: 4000000000", SHAPE, "too large"),
        ("pyramid_height: 2 pool: STOCHASTIC", SHAPE, "STOCHASTIC"),
        ("pyramid_height: 2", (2, 3), "4 axes"),
    ],
)
def test_bad_settings_are_refused(text, shape, message):
    with pytest.raises((LayerError, ShapeError), match=message):
        spp(text, shape)
