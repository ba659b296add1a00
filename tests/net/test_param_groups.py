"""Parameters side by side: same values, same training."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.param_groups import gather, place_group
from tests.net.support import fill_inputs, gradients, make_net
from tests.net.test_fuse import INCEPTION, RESIDUAL

NETS = {"residual": RESIDUAL, "inception": INCEPTION}


@pytest.mark.parametrize("name", NETS)
def test_values_and_gradients_stay(name):
    plain, grouped = make_net(NETS[name]), make_net(NETS[name])
    groups = gather(grouped.slots, grouped.learnable)
    for net in (plain, grouped):
        fill_inputs(net)
    for one, other in zip(plain.learnable, grouped.learnable, strict=True):
        np.testing.assert_array_equal(other.data, one.data)
    for one, other in zip(gradients(plain)[1], gradients(grouped)[1], strict=True):
        np.testing.assert_array_equal(other, one)
    assert sum(len(group.slots) for group in groups) == len(plain.slots)


def test_groups_hold_what_their_blobs_show():
    net = make_net(RESIDUAL, share_memory=True)
    fill_inputs(net)
    gradients(net)
    assert net.groups
    for group in net.groups:
        places, total = place_group(group.slots)
        assert group.data.size == group.diff.size == total
        covered = np.zeros(total, bool)
        for slot, place in zip(group.slots, places, strict=True):
            blob = net.learnable[slot.index]
            assert np.shares_memory(blob.data, group.data[place])
            np.testing.assert_array_equal(group.data[place], blob.data.reshape(-1))
            np.testing.assert_array_equal(group.diff[place], blob.diff.reshape(-1))
            assert slot.lr_mult == group.slots[0].lr_mult
            assert slot.decay_mult == group.slots[0].decay_mult
            assert not covered[place].any()
            covered[place] = True
        assert not group.diff[~covered].any()


def test_a_test_net_follows():
    net, scoring = make_net(RESIDUAL, share_memory=True), make_net(RESIDUAL)
    scoring.share_trained_layers_with(net)
    net.groups[0].data[...] = 7
    for slot in net.groups[0].slots:
        layer = scoring.layers[slot.owner]
        assert (layer.blobs[slot.param_index].data == 7).all()
