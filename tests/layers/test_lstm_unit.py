"""LSTMUnit's corner cases."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

SHAPES = [(1, 2, 3), (1, 2, 12), (1, 2)]


def unit(**more):
    run = build("LSTMUnit", "", SHAPES, **more)
    rng = np.random.default_rng(2)
    for blob in run.bottom[:2]:
        blob.data[...] = rng.standard_normal(blob.shape)
    return run


def test_a_sequence_that_begins_forgets_its_cell():
    run = unit()
    run.bottom[2].data[...] = [[0, 1]]
    c, h = run.forward()
    gates = run.bottom[1].data[0].reshape(2, 4, 3)
    i, f, o = (1 / (1 + np.exp(-gates[:, k])) for k in range(3))
    f[0] = 0
    cell = f * run.bottom[0].data[0] + i * np.tanh(gates[:, 3])
    np.testing.assert_allclose(c[0], cell, rtol=1e-5)
    np.testing.assert_allclose(h[0], o * np.tanh(cell), rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_gradient_of_a_half_open_sequence_is_that_of_caffe(backend, request):
    """Not the true one: Caffe's factor is f (1 - f) with f = cont sigmoid."""
    ops = request.getfixturevalue("cpu") if backend == "cpu" else None
    run = unit(ops=ops)
    run.bottom[2].data[...] = 0.5
    run.forward()
    run.set_top_diffs([1.0, 0.0])
    dc, dx, _ = run.backward([True, True, False])
    f = 0.5 / (1 + np.exp(-run.bottom[1].data[0, :, 3:6]))
    np.testing.assert_allclose(dc[0], f, rtol=1e-5)
    expected = run.bottom[0].data[0] * f * (1 - f)
    np.testing.assert_allclose(dx[0, :, 3:6], expected, rtol=1e-4, atol=1e-6)


def test_cont_has_no_gradient():
    run = unit()
    run.forward()
    with pytest.raises(LayerError, match="sequence indicators"):
        run.backward([True, True, True])
    assert [run.layer.allow_force_backward(i) for i in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 2, 3), (2, 2, 12), (2, 2)],
        [(1, 2, 3), (1, 2, 11), (1, 2)],
        [(1, 2, 3), (1, 3, 12), (1, 2)],
        [(1, 2, 3), (1, 2, 12), (1, 3)],
        [(1, 2, 3), (1, 2, 12), (1, 2, 1)],
        [(1, 6), (1, 2, 12), (1, 2)],
    ],
)
def test_wrong_shapes_are_refused(shapes):
    with pytest.raises(ShapeError, match="bottom"):
        build("LSTMUnit", "", shapes)
