"""Accuracy and ArgMax: ties, ignored labels, classes."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def accuracy(scores, labels, text="", num_top=1):
    scores, labels = np.array(scores, float), np.array(labels, float)
    param = f"accuracy_param {{ {text} }}"
    run = build("Accuracy", param, [scores.shape, labels.shape], num_top=num_top)
    run.bottom[0].data[...] = scores
    run.bottom[1].data[...] = labels
    return run


SCORES = [[1, 2, 3], [3, 2, 1], [2, 2, 1], [1, 3, 2]]


@pytest.mark.parametrize(
    ("labels", "text", "expected"),
    [
        ([2, 0, 2, 1], "", 0.75),
        ([2, 0, 0, 1], "", 0.75),  # a tie for the best counts against the label
        ([1, 1, 0, 2], "", 0.0),
        ([1, 1, 0, 2], "top_k: 2", 1.0),
        ([0, 2, 2, 0], "top_k: 2", 0.0),
        ([2, 9, 9, 0], "ignore_label: 9", 0.5),
        ([9, 9, 9, 9], "ignore_label: 9", 0.0),
    ],
)
def test_counts(labels, text, expected):
    assert accuracy(SCORES, labels, text).forward()[0] == expected


def test_per_class():
    run = accuracy(SCORES, [2, 0, 0, 0], num_top=2)
    total, classes = run.forward()
    assert total == 0.5
    np.testing.assert_allclose(classes, [1 / 3, 0, 1], rtol=1e-6)


def test_labels_out_of_range_are_errors():
    with pytest.raises(LayerError, match="label 3 at position 1"):
        accuracy(SCORES, [0, 3, 0, 0]).forward()


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="needs 4 labels"):
        accuracy(SCORES, [0, 1])
    with pytest.raises(ShapeError, match="top_k 4 exceeds the 3 classes"):
        accuracy(SCORES, [0, 1, 2, 0], "top_k: 4")


def test_has_no_gradient():
    run = accuracy(SCORES, [0, 1, 2, 0])
    assert not run.layer.allow_force_backward(0)
    with pytest.raises(LayerError, match="gradients"):
        run.backward([True, False])


def counted_by_hand(scores, labels, top_k, ignore):
    """Hits and counts of every class; classes along the last axis of ``scores``."""
    classes = scores.shape[-1]
    hits, seen = np.zeros(classes), np.zeros(classes)
    for row, value in zip(scores.reshape(-1, classes), labels.reshape(-1), strict=True):
        label = int(value)
        if label == ignore:
            continue
        others = [s for c, s in enumerate(row) if c != label]
        seen[label] += 1
        hits[label] += sum(s >= row[label] for s in others) < top_k
    return hits, seen


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("ignore", [None, 2])
def test_every_field_together(axis, top_k, ignore, cpu):
    rng = np.random.default_rng(6)
    # Whole numbers, so that ties are many.
    scores = rng.integers(0, 4, (5, 6, 4, 3) if axis >= 0 else (4, 3, 2, 5))
    shape = np.delete(scores.shape, axis)
    labels = rng.integers(0, scores.shape[axis] - 1, shape) + rng.random(shape) * 0.9
    text = f"top_k: {top_k} axis: {axis}"
    text += "" if ignore is None else f" ignore_label: {ignore}"
    hits, seen = counted_by_hand(np.moveaxis(scores, axis, -1), labels, top_k, ignore)
    for ops in (None, cpu):
        param = f"accuracy_param {{ {text} }}"
        shapes = [scores.shape, labels.shape]
        run = build("Accuracy", param, shapes, num_top=2, ops=ops)
        run.bottom[0].data[...], run.bottom[1].data[...] = scores, labels
        total, classes = run.forward()
        np.testing.assert_allclose(total, hits.sum() / seen.sum(), rtol=1e-6)
        # The last class has no samples: 0, not NaN.
        np.testing.assert_allclose(classes, hits / np.maximum(seen, 1), rtol=1e-6)
        assert classes[-1] == 0


def test_negative_labels_may_be_ignored():
    run = accuracy(SCORES, [-1, 0, -1.5, 1], "ignore_label: -1")
    assert run.forward()[0] == 1


def test_labels_may_have_any_shape_of_the_right_count():
    # Unlike the losses, Caffe compares counts only.
    assert accuracy(SCORES, [[2, 0], [1, 1]]).forward()[0] == 0.75


def test_a_score_that_is_no_number_counts_as_best():
    assert accuracy([[np.nan, 1, 2]], [0]).forward()[0] == 1
