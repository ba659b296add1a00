"""Backward of one layer, from scaled losses."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.layer_backward import run_backward
from poseidon_caffe.net.net import Net
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.devices import gpu_ops
from tests.net.support import SMALL


@pytest.fixture
def net():
    """A net in 16 bits that has run forward."""
    made = Net(parse_net(SMALL), phase=Phase.TRAIN, ops=gpu_ops("fp16"), seed=3)
    made.forward()
    return made


def loss_index(net):
    return next(i for i, layer in enumerate(net.layers) if any(layer.loss_weights))


def test_gradients_have_the_factor_and_loss_weights_do_not(net):
    index = loss_index(net)
    scores = net.bottom_blobs[index][0]
    run_backward(net, index)
    plain = scores.cpu_diff.astype(np.float64)
    net.loss_scale = gpu_ops("fp16").loss_scale()
    run_backward(net, index)
    np.testing.assert_array_equal(scores.cpu_diff, plain * net.loss_scale.factor())
    assert plain.any()
    assert net.top_blobs[index][0].cpu_diff == 1


def test_tops_that_are_no_loss_keep_their_gradients(net):
    index = loss_index(net) - 1
    net.loss_scale = gpu_ops("fp16").loss_scale()
    top = net.top_blobs[index][0]
    run_backward(net, index + 1)
    before = top.cpu_diff.copy()
    run_backward(net, index)
    np.testing.assert_array_equal(top.cpu_diff, before)
