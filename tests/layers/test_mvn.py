"""MVN's moments."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import ShapeError
from tests.layers.harness import build


def mvn(text="", shape=(2, 3, 4, 5), **more):
    run = build("MVN", f"mvn_param {{ {text} }}", [shape], **more)
    rng = np.random.default_rng(5)
    run.bottom[0].data[...] = 3 + 2 * rng.standard_normal(shape)
    return run


@pytest.mark.parametrize(("across", "axes"), [("false", (2, 3)), ("true", (1, 2, 3))])
def test_moments_become_0_and_1(across, axes):
    run = mvn(f"across_channels: {across}")
    y = run.forward()[0]
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=axes), 1, rtol=1e-5)


def test_eps_is_added_to_the_deviation():
    run = mvn("eps: 3")
    x = run.bottom[0].data
    mean, deviation = (f(x, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    np.testing.assert_allclose(
        run.forward()[0], (x - mean) / (deviation + 3), rtol=1e-4, atol=1e-6
    )


def test_a_constant_plane_becomes_0():
    run = mvn()
    run.bottom[0].data[...] = 4
    assert (run.forward()[0] == 0).all()


def test_without_variance_only_the_mean_goes():
    run = mvn("normalize_variance: false")
    x = run.bottom[0].data
    expected = x - x.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-5, atol=1e-6)


def test_tops_have_four_axes():
    assert mvn(shape=(2, 6)).top[0].shape == (2, 6, 1, 1)
    with pytest.raises(ShapeError, match="at most 4 axes"):
        mvn(shape=(1, 2, 3, 4, 5))
    with pytest.raises(ShapeError, match="in place"):
        mvn(shape=(2, 6), in_place=True)
