from __future__ import annotations

import warnings

import numpy as np
import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import GraphError, ShapeError
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.net.support import (
    DATA,
    SMALL,
    assert_same,
    fc,
    fill_inputs,
    gradients,
    layer,
    loss,
    make_net,
    set_params,
    values,
)
from tests.net.test_fuse import NETS

MODES = {
    "plain": {},
    "fuse": {"fuse": True},
    "share": {"share_memory": True},
    "both": {"fuse": True, "share_memory": True},
}


def ready(text=SMALL, **options):
    net = make_net(text, **options)
    fill_inputs(net)
    return net


# -- forward and backward ----------------------------------------------------


def test_the_loss_is_the_weighted_sum():
    text = DATA + fc("f", "data") + loss("a", "f label", "loss_weight: 3")
    net = ready(text + loss("b", "f label") + loss("c", "f label", "loss_weight: 0"))
    total = net.forward()
    single = net.blobs["a"].data.item()
    assert total == pytest.approx(4 * single)
    assert {k: v for k, v in net.loss_weights.items() if v} == {"a": 3, "b": 1}
    assert list(net.loss_weights) == list(net.blobs)


def test_parts_make_the_whole():
    whole, parts = ready(), ready()
    total, grads = gradients(whole)
    parts.clear_param_diffs()
    assert parts.forward(0, 1) == 0
    assert parts.forward(2, 3) == 0
    assert parts.forward(4, 4) == total
    parts.backward(4, 3)
    parts.backward(2, 0)
    assert_same([b.diff for b in parts.learnable], grads)


def test_gradients_add_up_until_cleared():
    net = ready()
    _, once = gradients(net)
    net.forward_backward()
    for blob, grad in zip(net.learnable, once, strict=True):
        np.testing.assert_allclose(blob.diff, 2 * grad, rtol=1e-5, atol=1e-7)
    net.clear_param_diffs()
    assert not any(np.any(blob.diff) for blob in net.learnable)


def test_the_gradient_is_the_slope_of_the_loss():
    net = Net(
        parse_net(SMALL), ops=get_ops("reference"), phase=Phase.TRAIN, dtype=np.float64
    )
    fill_inputs(net)
    _, grads = gradients(net)
    rng = np.random.default_rng(0)
    for blob, grad in zip(net.learnable, grads, strict=True):
        way = rng.standard_normal(blob.shape)
        start, both = blob.data.copy(), []
        for step in (1e-5, -1e-5):
            blob.data[...] = start + step * way
            both.append(net.forward())
        blob.data[...] = start
        assert (both[0] - both[1]) / 2e-5 == pytest.approx((way * grad).sum(), rel=1e-5)


def test_overflow_passes_silently():
    net = ready()
    net.learnable[0].data[...] = 1e38
    net.learnable[0].touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.forward_backward()
        net.first_non_finite()


def test_layer_index():
    net = ready()
    assert [net.layer_index(name) for name in ("data", "loss")] == [0, 4]
    with pytest.raises(GraphError, match=r'no layer "nix".*\'loss\''):
        net.layer_index("nix")


def test_numpy_computes_the_same():
    fast, plain = ready(NETS["residual"]), ready(NETS["residual"], backend="numpy")
    (loss_one, one), (loss_two, two) = gradients(fast), gradients(plain)
    assert loss_one == pytest.approx(loss_two, rel=1e-4)
    for slot, a, b in zip(fast.slots, one, two, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-2, atol=1e-4 + 1e-4 * np.abs(b).max(), err_msg=slot.name
        )


# -- reshape -----------------------------------------------------------------


def with_inputs(text, batch, size):
    return text.replace("dim: 4", f"dim: {batch}").replace("dim: 8", f"dim: {size}")


def resize(net, batch, size):
    net.blobs["data"].reshape((batch, 3, size, size))
    net.blobs["label"].reshape((batch,))
    fill_inputs(net)


POOLED = {
    name: text.replace(
        'layer { name: "fc"',
        layer("all", "Pooling", last, None, "pooling_param { global_pooling: true }")
        + 'layer { name: "fc"',
    )
    .replace(f'"InnerProduct" bottom: "{last}"', '"InnerProduct" bottom: "all"')
    .replace('type: "Dropout"', 'type: "Dropout" phase: TEST')
    for (name, text), last in zip(NETS.items(), ("sum", "q"), strict=True)
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POOLED)
def test_other_inputs_compute_as_in_a_fresh_net(name, mode):
    text = POOLED[name]
    net = ready(text, **MODES[mode])
    net.forward_backward()
    for batch, size in ((7, 8), (2, 8), (4, 12), (1, 9), (4, 8)):
        resize(net, batch, size)
        fresh = ready(with_inputs(text, batch, size), **MODES[mode])
        fresh.copy_trained_from(net.to_proto())
        for _ in range(2):
            (loss_one, one), (loss_two, two) = gradients(net), gradients(fresh)
            assert loss_one == loss_two
            assert_same(one, two)
        assert net.blobs["loss"].shape == ()
        assert net.memory_bytes == fresh.memory_bytes


def test_reshape_spreads_without_running():
    net = make_net(SMALL)
    net.blobs["data"].reshape((9, 3, 8, 8))
    net.blobs["label"].reshape((9,))
    net.reshape()
    assert net.blobs["c"].shape == (9, 4, 8, 8)
    assert net.blobs["f"].shape == (9, 5)


def test_a_shape_that_does_not_fit_names_the_layer():
    net = ready()
    net.blobs["data"].reshape((4, 3, 9, 9))
    with pytest.raises(ShapeError, match=r'layer "f".*256'):
        net.forward()
    net.blobs["data"].reshape((4, 2, 8, 8))
    with pytest.raises(ShapeError, match=r'layer "c".*channels'):
        net.forward()


def test_it_recovers_from_a_bad_shape():
    net = ready()
    before = net.forward()
    net.blobs["data"].reshape((4, 2, 8, 8))
    with pytest.raises(ShapeError):
        net.forward()
    net.blobs["data"].reshape((4, 3, 8, 8))
    fill_inputs(net)
    assert net.forward() == before


# -- numbers that are none ---------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_finite_nets_have_no_first_bad_number(mode):
    net = ready(**MODES[mode])
    net.forward_backward()
    assert net.first_non_finite() is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_blob_is_named(mode, bad):
    net = ready(**MODES[mode])
    net.blobs["data"].data[1, 2, 3, 4] = bad
    net.forward()
    assert net.first_non_finite() == "blob data (top of layer data, Input)"


@pytest.mark.parametrize("mode", MODES)
def test_the_first_bad_parameter_is_named(mode):
    net = ready(**MODES[mode])
    net.layers[3].blobs[1].data[2] = np.nan
    net.layers[3].blobs[1].touch()
    net.forward()
    assert net.first_non_finite() == "parameter 1 of layer f"


@pytest.mark.parametrize("mode", MODES)
def test_a_blob_that_overflows_is_named(mode):
    net = ready(**MODES[mode])
    net.layers[1].blobs[0].data[...] = 1e38
    net.layers[1].blobs[0].touch()
    net.forward()
    assert net.first_non_finite() == "blob c (top of layer c, Convolution)"


# -- state -------------------------------------------------------------------

RANDOM = (
    DATA
    + layer("d1", "Dropout", "data")
    + layer("d2", "Dropout", "d1", "d1")
    + fc("f", "d1")
    + loss("loss", "f label")
)


def test_state_brings_the_random_numbers_back():
    net = ready(RANDOM)
    net.forward()
    state = net.state()
    assert sorted(state) == ["d1", "d2"]
    runs = [net.forward() for _ in range(3)]
    assert len(set(runs)) == 3
    net.restore_state(state)
    assert [net.forward() for _ in range(3)] == runs
    other = ready(RANDOM, seed=1)
    other.restore_state(state)
    assert [other.forward() for _ in range(3)] == runs


def test_state_of_other_layers_is_passed_over():
    net = ready(RANDOM)
    before = net.state()
    net.restore_state({"gone": {"rng": 1}})
    assert net.state() == before


def test_same_seed_same_run():
    runs = [[ready(RANDOM, seed=seed).forward() for _ in range(2)] for seed in (1, 2)]
    assert len(set(runs[0])) == len(set(runs[1])) == 1
    assert runs[0] != runs[1]


def test_close_reaches_every_layer_and_may_come_twice():
    net = ready()
    closed = []
    for each in net.layers:
        each.close = lambda name=each.name: closed.append(name)
    net.close()
    net.close()
    assert closed == 2 * net.layer_names


# -- options -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_no_option_changes_what_training_does(mode):
    plain, net = ready(NETS["inception"]), ready(NETS["inception"], **MODES[mode])
    for _ in range(4):
        for each in (plain, net):
            gradients(each)
            for blob in each.learnable:
                blob.data[...] -= 0.05 * blob.diff
                blob.touch()
    for slot, a, b in zip(net.slots, values(net), values(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=slot.name)


def test_scoring_computes_as_the_whole_net_does():
    plain = ready(NETS["residual"], phase=Phase.TEST)
    set_params(plain, 1)
    bare = ready(NETS["residual"], phase=Phase.TEST, forward_only=True)
    bare.share_trained_layers_with(plain)
    assert bare.forward() == plain.forward()
    for name, blob in plain.blobs.items():
        assert_same([bare.blobs[name].data], [blob.data])


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        NetOptions().fuse = True


def test_the_given_message_is_not_changed():
    param = parse_net(SMALL)
    before = param.SerializeToString(deterministic=True)
    make_net(param, fuse=True, share_memory=True)
    assert param.SerializeToString(deterministic=True) == before
