"""Loaded and shared parameters take effect at once, whatever kernels have kept."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import WeightsError
from poseidon_caffe.types import Phase
from tests.net.support import (
    DATA,
    SMALL,
    assert_same,
    conv,
    fc,
    fill_inputs,
    gradients,
    make_net,
    set_params,
    values,
)
from tests.net.test_fuse import NETS
from tests.net.test_params import autoencoder

MODES = {
    "plain": {},
    "fuse": {"fuse": True},
    "share": {"share_memory": True},
    "both": {"fuse": True, "share_memory": True},
    "scoring": {"fuse": True, "share_memory": True, "forward_only": True},
}


# -- caches of what kernels made of the weights ------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_loaded_weights_work_at_once(name, mode):
    """Kernels that have run keep packed weights, which loading must outdate."""
    phase = Phase.TEST if mode == "scoring" else Phase.TRAIN
    text = NETS[name].replace('type: "Dropout"', 'type: "Dropout" phase: TEST')
    net = make_net(text, seed=1, phase=phase, **MODES[mode])
    other = make_net(text, seed=2, phase=phase, **MODES[mode])
    for each in (net, other):
        fill_inputs(each)
    set_params(other, 3)
    before = net.forward()
    net.copy_trained_from(other.to_proto())
    got, want = net.forward(), other.forward()
    assert got != before
    assert got == want
    if mode != "scoring":
        (_, ours), (_, theirs) = gradients(net), gradients(other)
        assert_same(ours, theirs)


@pytest.mark.parametrize("mode", MODES)
def test_a_test_net_sees_each_step_of_the_trained_net(mode):
    text = NETS["residual"]
    train = make_net(text, fuse=True, share_memory=True)
    test = make_net(text, seed=2, phase=Phase.TEST, **MODES[mode])
    fresh = make_net(text, seed=3, phase=Phase.TEST, **MODES[mode])
    for net in (train, test, fresh):
        fill_inputs(net)
    test.forward()
    test.share_trained_layers_with(train)
    losses = set()
    for _ in range(3):
        gradients(train)
        for blob in train.learnable:
            blob.data[...] -= 0.1 * blob.diff
            blob.touch()
        fresh.copy_trained_from(train.to_proto())
        got = test.forward()
        assert got == fresh.forward()
        losses.add(got)
    assert len(losses) == 3


def test_shared_weights_of_the_same_age_are_not_mistaken():
    """Both kernels have packed weights under the same version number."""
    one, two = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    for net in (one, two):
        fill_inputs(net)
    first = one.forward()
    assert two.forward() != first
    two.share_trained_layers_with(one)
    assert two.forward() == first


def test_sharing_is_of_values_not_of_gradients():
    train, test = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    for net in (train, test):
        fill_inputs(net)
    test.share_trained_layers_with(train)
    _, grads = gradients(train)
    test.clear_param_diffs()
    test.forward_backward()
    test.forward_backward()
    assert_same([b.diff for b in train.learnable], grads)
    for a, b in zip(test.learnable, train.learnable, strict=True):
        assert np.shares_memory(a.data, b.data)
        np.testing.assert_allclose(a.diff, 2 * b.diff, rtol=1e-5, atol=1e-7)


def test_shared_weights_follow_a_user_who_writes_into_them():
    train, test = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    for net in (train, test):
        fill_inputs(net)
    test.share_trained_layers_with(train)
    before = test.forward()
    # As the pycaffe face does when it hands out an array.
    train.learnable[0].exposed = True
    train.learnable[0].data[...] *= 3
    changed = test.forward()
    assert changed != before
    assert changed == train.forward()


def test_permissive_sharing_follows_the_other_net():
    train, test = make_net(autoencoder(), seed=1), make_net(autoencoder(), seed=2)
    for net in (train, test):
        fill_inputs(net, 3)
    test.forward()
    test.share_trained_layers_with(train)
    set_params(train, 4)
    assert test.forward() == train.forward()
    # Even where the other net has only the owner.
    part = make_net(DATA + conv("c", "data", "num_output: 16 kernel_size: 1"), seed=3)
    test.share_trained_layers_with(part)
    owner, sharer = test.params[0].data, test.params[2].data
    assert np.shares_memory(owner, part.params[0].data)
    assert_same([sharer.reshape(-1)], [owner.reshape(-1)])


def test_only_common_layers_are_shared():
    train = make_net(DATA + conv("c", "data") + fc("f", "c") + fc("x", "c"))
    test = make_net(DATA + conv("c", "data") + fc("f", "c") + fc("y", "c"), seed=2)
    own = test.learnable[4].data.copy()
    test.share_trained_layers_with(train)
    assert_same(values(test)[:4], values(train)[:4])
    assert_same([test.learnable[4].data], [own])


def test_nets_that_do_not_fit_are_not_shared():
    train = make_net(DATA + conv("c", "data") + fc("f", "c", 7))
    no_bias = conv("c", "data", "num_output: 4 kernel_size: 3 pad: 1 bias_term: false")
    test = make_net(DATA + no_bias + fc("f", "c"))
    with pytest.raises(WeightsError) as caught:
        test.share_trained_layers_with(train)
    text = str(caught.value)
    assert "layer c has 1 parameters, there it has 2" in text
    assert "layer f, parameter 0: the net has (5, 256)" in text
    assert not np.shares_memory(test.learnable[0].data, train.learnable[0].data)
