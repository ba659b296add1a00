"""What kernels along classes are told, and what is refused before."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.classes import check_label_count, ignoring
from poseidon_caffe.errors import ShapeError
from tests.backend.gpu.storage import assert_near, there
from tests.devices import gpu_ops


def test_labels_that_do_not_count():
    assert ignoring(None) == (0, 0)
    assert ignoring(0) == (1, 0)
    assert ignoring(-1) == (1, -1)


def test_a_label_for_each_place():
    prob = np.zeros((2, 3, 4, 5))
    check_label_count(prob, np.zeros(40), 1)
    check_label_count(prob, np.zeros((2, 1, 4, 5)), 1)
    check_label_count(np.zeros((2, 0)), np.zeros(0), 1)
    with pytest.raises(ShapeError, match=r"classes on axis 2 need one label"):
        check_label_count(prob, np.zeros(40), 2)


# A warp a place, a block a place, a tile of places, and their neighbours.
@pytest.mark.parametrize("classes", [1, 2, 33, 256, 257, 8191, 8192])
def test_every_form_gives_the_same_softmax(classes):
    x = np.random.default_rng(classes).standard_normal((2, classes)) * 3
    want = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    y = there(np.full(x.shape, np.nan))
    gpu_ops().softmax(there(x), 1, y)
    assert_near(y, want, y.dtype, 8)
    tall = there(np.full((classes, 2), np.nan))
    gpu_ops().softmax(there(x.T), 0, tall)
    # A thread adds up to a thousand numbers here, one after the other.
    assert_near(tall, want.T, y.dtype, 20)


# The labels: the first class, one in the middle, the last, and one that is ignored.
@pytest.mark.parametrize("classes", [2, 256, 257, 8192])
def test_every_form_gives_the_same_gradient_of_the_softmax_loss(classes):
    prob = np.random.default_rng(classes).random((4, classes))
    label = np.array([0, classes // 2, classes - 1, -1], np.float32)
    want = 0.5 * (prob - (np.arange(classes) == label[:, None]))
    want[3] = 0
    weight = gpu_ops().memory.zeros(1, np.float64)
    gpu_ops().memory.upload(np.array([0.5]), weight)
    for axis, order in ((1, (0, 1)), (0, (1, 0))):
        dx = there(prob.transpose(order))  # in place
        gpu_ops().softmax_loss_backward(dx, there(label), axis, -1, weight, dx)
        assert_near(dx, want.transpose(order), dx.dtype)
