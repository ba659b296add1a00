"""Statistics and rules of the fillers."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.fillers import FILLERS, fans, fill
from poseidon_caffe.schema.messages import FillerParameter

SHAPE = (40, 30, 5, 5)
OPS = ReferenceOps()
FAN_IN, FAN_OUT = 30 * 25, 40 * 25


def filled(shape=SHAPE, dtype=np.float32, seed=3, **settings):
    array = np.full(shape, np.nan, dtype)
    fill(array, FillerParameter(**settings), np.random.default_rng(seed), OPS)
    assert np.isfinite(array).all()
    return array


def test_constant():
    assert (filled(type="constant", value=1.5) == 1.5).all()
    assert (filled() == 0).all()


def test_uniform():
    w = filled(type="uniform", min=-2, max=4)
    assert w.min() >= -2
    assert w.max() < 4
    assert abs(w.mean() - 1) < 0.05
    assert abs(w.std() - 6 / np.sqrt(12)) < 0.05


def test_gaussian():
    w = filled(type="gaussian", mean=2, std=0.5)
    assert abs(w.mean() - 2) < 0.02
    assert abs(w.std() - 0.5) < 0.02


def test_sparse_gaussian_keeps_so_many_inputs_of_each_output_on_average():
    # Caffe: an element stays with probability sparse / num_outputs.
    w = filled((50, 400), type="gaussian", sparse=5)
    assert abs((w != 0).mean() - 5 / 50) < 0.01
    assert (filled((50, 400), type="gaussian", sparse=0) == 0).all()


@pytest.mark.parametrize(
    ("norm", "n"), [(0, FAN_IN), (1, FAN_OUT), (2, (FAN_IN + FAN_OUT) / 2)]
)
def test_xavier_and_msra_scale_with_the_fans(norm, n):
    w = filled(type="xavier", variance_norm=norm)
    limit = np.sqrt(3 / n)
    assert np.abs(w).max() <= limit * 1.0001
    assert np.abs(w).max() > limit * 0.99
    w = filled(type="msra", variance_norm=norm)
    assert abs(w.std() / np.sqrt(2 / n) - 1) < 0.03


def test_fans():
    assert fans(SHAPE) == (FAN_IN, FAN_OUT)
    assert fans((7, 5)) == (5, 7)
    assert fans((7,)) == (1, 7)
    assert fans(()) == (1, 1)


def test_positive_unitball_sums_to_one():
    w = filled(type="positive_unitball")
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(axis=(1, 2, 3)), 1, rtol=1e-5)


def test_bilinear_is_a_tent():
    w = filled((2, 1, 4, 4), type="bilinear")
    tent = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(w[1, 0], np.outer(tent, tent))
    odd = filled((1, 1, 3, 3), type="bilinear")[0, 0]
    tent = np.array([0.5, 1, 0.5])
    np.testing.assert_allclose(odd, np.outer(tent, tent))


def test_bilinear_needs_square_planes():
    with pytest.raises(LayerError, match=r"here: .*\(3, 4\)"):
        fill(
            np.empty((3, 4)), FillerParameter(type="bilinear"), None, OPS, where="here"
        )


@pytest.mark.parametrize("kind", sorted(set(FILLERS) - {"bilinear"}))
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (4, 3)])
def test_every_filler_takes_any_shape(kind, shape):
    assert filled(shape, type=kind).shape == shape


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "xavier", "msra"])
def test_same_seed_same_numbers_in_any_dtype_and_layout(kind):
    a = filled(type=kind)
    np.testing.assert_array_equal(a, filled(type=kind))
    np.testing.assert_array_equal(a, filled(type=kind, dtype=np.float64))
    strided = np.empty((5, 30, 40, 5), np.float32).transpose(2, 1, 0, 3)
    fill(strided, FillerParameter(type=kind), np.random.default_rng(3), OPS)
    np.testing.assert_array_equal(a, strided)
    assert (a != filled(type=kind, seed=4)).any()


def test_unknown_type_names_the_known():
    with pytest.raises(LayerError, match=r'"xaver" \(known: .*xavier'):
        fill(np.empty(3), FillerParameter(type="xaver"), None, OPS)


@pytest.mark.parametrize(("kind", "sparse"), [("xavier", 3), ("gaussian", -2)])
def test_sparse_only_where_it_means_something(kind, sparse):
    with pytest.raises(LayerError, match="sparse"):
        fill(np.empty(3), FillerParameter(type=kind, sparse=sparse), None, OPS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "uniform", "min": 2, "max": 1}, "min <= max"),
        ({"type": "gaussian", "std": -1}, "not negative"),
    ],
)
def test_distributions_that_are_none(settings, said):
    with pytest.raises(LayerError, match=said):
        filled(**settings)
