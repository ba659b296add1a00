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
