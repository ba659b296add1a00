"""The smaller losses: values at chosen points, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.layers.losses import BATCH_SIZE, FULL, NONE, VALID, normalizer
from tests.layers.harness import build


def test_normalizer():
    divisors = [normalizer(mode, 4, 6, 20) for mode in (FULL, VALID, BATCH_SIZE, NONE)]
    assert divisors == [24, 20, 4, 1]
    assert normalizer(VALID, 4, 6, 0) == 1


def test_euclidean_halves_the_mean_square():
    run = build("EuclideanLoss", "", [(2, 3), (2, 3)])
    run.bottom[0].data[...] = 3
    run.bottom[1].data[...] = 1
    assert run.forward()[0] == 4 * 6 / 2 / 2
    run.top[0].diff[...] = 0.5
    a, b = run.backward()
    assert (a == 2 / 2 * 0.5).all()
    assert (b == -a).all()
    assert run.layer.allow_force_backward(1)


@pytest.mark.parametrize("kind", ["EuclideanLoss", "SigmoidCrossEntropyLoss"])
@pytest.mark.parametrize("other", [(3, 3), (2, 4)])
def test_counts_must_agree(kind, other):
    with pytest.raises(ShapeError, match="b1"):
        build(kind, "", [(2, 3), other])


def test_sigmoid_cross_entropy_has_caffes_own_default():
    # Not VALID, as everywhere else: the batch size.
    run = build("SigmoidCrossEntropyLoss", "", [(2, 3), (2, 3)])
    np.testing.assert_allclose(run.forward()[0], 6 * np.log(2) / 2, rtol=1e-6)


def test_sigmoid_cross_entropy_does_not_overflow():
    run = build("SigmoidCrossEntropyLoss", "", [(1, 2), (1, 2)])
    run.bottom[0].data[...] = [[1000, -1000]]
    run.bottom[1].data[...] = [[0, 1]]
    assert run.forward()[0] == 2000
    run.top[0].diff[...] = 1
    assert run.backward([True, False])[0].tolist() == [[1, -1]]


def test_sigmoid_cross_entropy_ignores():
    text = "loss_param { ignore_label: 255 normalization: VALID }"
    run = build("SigmoidCrossEntropyLoss", text, [(2, 3), (2, 3)])
    run.bottom[1].data[0] = 255
    np.testing.assert_allclose(run.forward()[0], np.log(2), rtol=1e-6)
    run.top[0].diff[...] = 1
    dx = run.backward([True, False])[0]
    assert (dx[0] == 0).all()
    np.testing.assert_allclose(dx[1], 0.5 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("legacy", "distance", "similar", "expected"),
    [
        (False, 2, 1, 4), (False, 2, 0, 1), (False, 4, 0, 0),
        (True, 1, 1, 1), (True, 1, 0, 2), (True, 2, 0, 0),
    ],
)  # fmt: skip
def test_contrastive(legacy, distance, similar, expected):
    text = (
        f"contrastive_loss_param {{ margin: 3 legacy_version: {str(legacy).lower()} }}"
    )
    run = build("ContrastiveLoss", text, [(1, 2), (1, 2), (1,)])
    run.bottom[0].data[...] = [[distance, 0]]
    run.bottom[2].data[...] = similar
    np.testing.assert_allclose(run.forward()[0], expected / 2, rtol=1e-6)
    run.top[0].diff[...] = 1
    a, b, _ = run.backward([True, True, False])
    np.testing.assert_array_equal(a, -b)
    assert np.sign(a[0, 0]) == (0 if expected == 0 else 1 if similar else -1)


def test_contrastive_labels():
    run = build("ContrastiveLoss", "", [(2, 3), (2, 3), (2,)])
    assert [run.layer.allow_force_backward(i) for i in range(3)] == [True, True, False]
    with pytest.raises(LayerError, match="label"):
        run.backward([True, True, True])


@pytest.mark.parametrize(
    "shapes",
    [[(2, 3), (2, 4), (2,)], [(2, 3), (2, 3), (3,)], [(2, 3, 2), (2, 3), (2,)]],
)
def test_contrastive_shapes(shapes):
    with pytest.raises(ShapeError):
        build("ContrastiveLoss", "", shapes)
