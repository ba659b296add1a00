"""SoftmaxWithLoss: normalisation, labels, the second top."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

SHAPES = [(2, 5, 4, 3), (2, 4, 3)]


def loss(text="", **more):
    run = build("SoftmaxWithLoss", text, more.pop("bottoms", SHAPES), **more)
    rng = np.random.default_rng(3)
    run.bottom[0].data[...] = rng.standard_normal(run.bottom[0].shape)
    run.bottom[1].data[...] = rng.integers(0, 5, run.bottom[1].shape)
    return run


def places(run):
    """-log prob of each place's label."""
    x = run.bottom[0].data.astype(np.float64)
    log = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log, run.bottom[1].data.astype(int)[:, None], 1)[:, 0]


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", "counted"),
        ("normalization: VALID", "counted"),
        ("normalization: FULL", 24),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalize: true", "counted"),
        ("normalize: false", 2),
        ("normalize: false normalization: FULL", 24),
    ],
)
def test_normalisation(text, divisor):
    run = loss(f"loss_param {{ ignore_label: 3 {text} }}")
    counted = run.bottom[1].data != 3
    expected = places(run)[counted].sum()
    expected /= counted.sum() if divisor == "counted" else divisor
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-5)
    assert run.top[0].shape == ()
    run.top[0].diff[...] = 1
    dx = run.backward([True, False])[0]
    assert (dx[np.broadcast_to(~counted[:, None], dx.shape)] == 0).all()


def test_nothing_counted_is_a_loss_of_zero():
    run = loss("loss_param { ignore_label: 3 }")
    run.bottom[1].data[...] = 3
    assert run.forward()[0] == 0
    run.top[0].diff[...] = 1
    assert (run.backward([True, False])[0] == 0).all()


def test_a_certain_mistake_is_finite():
    run = loss(bottoms=[(1, 2), (1,)])
    run.bottom[0].data[...] = [[1000, -1000]]
    run.bottom[1].data[...] = 1
    np.testing.assert_allclose(run.forward()[0], 87.3365, rtol=1e-4)


def test_the_second_top_is_the_probabilities():
    run = loss(num_top=2)
    _, prob = run.forward()
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 5, 255, np.nan])
def test_labels_out_of_range_are_errors(label):
    run = loss()
    run.bottom[1].data[1, 2, 0] = label
    with pytest.raises(LayerError, match=r'layer "layer".*position 18.*0\.\.4'):
        run.forward()


def test_label_count_must_fit():
    with pytest.raises(ShapeError, match=r"24 labels.*b1: \(2, 4\)"):
        loss(bottoms=[(2, 5, 4, 3), (2, 4)])


def test_no_gradient_for_labels():
    run = loss()
    run.forward()
    with pytest.raises(LayerError, match="label"):
        run.backward([True, True])
    assert run.layer.allow_force_backward(0)
    assert not run.layer.allow_force_backward(1)
    assert run.layer.default_loss_weight(0) == 1
    assert run.layer.default_loss_weight(1) == 0
