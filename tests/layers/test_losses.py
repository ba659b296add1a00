"""The smaller losses: values at chosen points, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.layers.losses import (
    BATCH_SIZE,
    FULL,
    NONE,
    VALID,
    LabelCheck,
    Predictions,
    normalizer,
)
from tests.layers.harness import build


def test_normalizer():
    divisors = [normalizer(mode, 4, 6) for mode in (FULL, VALID, BATCH_SIZE, NONE)]
    assert divisors == [24, None, 4, 1]
    assert normalizer(BATCH_SIZE, 0, 6) == 1


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


def test_predictions():
    run = build("Accuracy", "", [(2, 5, 4, 3), (2, 4, 3)])
    cut = Predictions.of(run.layer, run.bottom, -3)
    assert cut == Predictions(1, 5, 2, 12, (2, 4, 3))
    with pytest.raises(ShapeError, match="needs 40 labels"):
        Predictions.of(run.layer, run.bottom, -1)
    with pytest.raises(ShapeError, match="out of range"):
        Predictions.of(run.layer, run.bottom, 4)


def test_labels_just_below_zero_are_class_0():
    layer = build("Silence", "", [(1,)]).layer
    check = LabelCheck(layer)
    check.run(np.array([-0.9, 3.9]), 4)
    for bad in (-1, 4, np.nan, np.inf):
        with pytest.raises(LayerError, match="position 1"):
            check.run(np.array([0, bad]), 4)
    LabelCheck(layer, -1).run(np.array([-1.5, 255.5, 0]), 256)


@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 4),
        ("normalization: FULL", 24),
        ("normalization: VALID", "counted"),
        ("normalization: BATCH_SIZE", 4),
        ("normalization: NONE", 1),
        ("normalize: true", "counted"),
        ("normalize: false", 4),
        ("normalize: true normalization: NONE", 1),
    ],
)
def test_sigmoid_cross_entropy_formula(text, divisor, ignore, cpu):
    rng = np.random.default_rng(3)
    skip = "" if ignore is None else f"ignore_label: {ignore}"
    x, t = rng.standard_normal((4, 6)), rng.integers(0, 3, (4, 6)) / 2
    t[0, 0] = 1.5  # its whole part is ignored
    counted = np.ones_like(t, bool) if ignore is None else t < 1
    by = counted.sum() if divisor == "counted" else divisor
    p = 1 / (1 + np.exp(-x))
    each = -t * np.log(p) - (1 - t) * np.log(1 - p)
    for ops in (None, cpu):
        shapes = [(4, 6), (4, 2, 3)]
        run = build(
            "SigmoidCrossEntropyLoss",
            f"loss_param {{ {text} {skip} }}",
            shapes,
            ops=ops,
        )
        run.bottom[0].data[...], run.bottom[1].data[...] = x, t.reshape(4, 2, 3)
        np.testing.assert_allclose(
            run.forward()[0], each[counted].sum() / by, rtol=1e-5
        )
        run.top[0].diff[...] = 0.5
        dx = run.backward([True, False])[0]
        np.testing.assert_allclose(dx, 0.5 * (p - t) * counted / by, atol=1e-6)


@pytest.mark.parametrize("kind", ["SigmoidCrossEntropyLoss", "HingeLoss"])
def test_scalars_have_no_batch(kind):
    with pytest.raises(ShapeError):
        build(kind, "", [(), ()])


@pytest.mark.parametrize(
    "shapes",
    [
        [(3, 2), (3, 2, 1, 1), (3, 1, 1, 1)],
        [(3, 2, 1, 1), (3, 2), (3,)],
        [(3,), (3, 1), (3, 1)],
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_formula(shapes, legacy, cpu):
    text = "" if not legacy else "contrastive_loss_param { legacy_version: true }"
    rng = np.random.default_rng(4)
    width = int(np.prod(shapes[0][1:]))
    a, b = 0.4 * rng.standard_normal((2, 3, width))
    similar = np.array([1, 0.9, -2])  # true, false, true as whole numbers
    square = ((a - b) ** 2).sum(1)
    distance = np.sqrt(square)
    gap = np.maximum(1 - (square if legacy else distance), 0)  # the margin is 1
    same = np.array([True, False, True])
    total = np.where(same, square, gap if legacy else gap**2).sum() / 6
    push = np.where(gap > 0, -1 if legacy else -gap / (distance + 1e-4), 0)
    slope = (a - b) * np.where(same, 1, push)[:, None] / 3
    for ops in (None, cpu):
        run = build("ContrastiveLoss", text, shapes, ops=ops)
        for blob, values in zip(run.bottom, (a, b, similar), strict=True):
            blob.data[...] = values.reshape(blob.shape)
        np.testing.assert_allclose(run.forward()[0], total, rtol=1e-5)
        run.top[0].diff[...] = 2
        da, db, _ = run.backward([True, True, False])
        np.testing.assert_allclose(da.reshape(3, -1), 2 * slope, atol=1e-6)
        np.testing.assert_allclose(db.reshape(3, -1), -2 * slope, atol=1e-6)
