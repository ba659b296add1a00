from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import GraphError, LayerError
from poseidon_caffe.net.graph import connect
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.types import Phase
from tests.net.support import DATA, conv, fc, fill_inputs, layer, loss, make_net

FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"


def plan(net):
    """Per layer with bottoms that want a gradient: which."""
    return {
        name: "".join("ny"[need] for need in needs)
        for name, needs, runs in zip(
            net.layer_names,
            net.bottom_need_backward,
            net.layer_need_backward,
            strict=True,
        )
        if runs
    }


# -- wiring ------------------------------------------------------------------


def test_connect_consumes_bottoms_and_offers_tops():
    available, made = {"a": 0, "b": 0}, {"a", "b"}
    param = LayerParameter(name="x", type="T", bottom=["a"], top=["a", "c"])
    wire = connect(param, available, made)
    assert (wire.bottom, wire.top, wire.in_place) == (["a"], ["a", "c"], [True, False])
    assert available == {"a": 0, "b": 0, "c": 1}
    assert made == {"a", "b", "c"}
    param = LayerParameter(name="y", type="T", bottom=["a"], top=["d"])
    assert connect(param, available, made).in_place == [False]
    assert list(available) == ["b", "c", "d"]


def test_unknown_bottom():
    param = LayerParameter(name="x", type="T", bottom=["z"])
    with pytest.raises(GraphError, match=r'"x" \(T\): unknown bottom blob "z"'):
        connect(param, {}, set())


@pytest.mark.parametrize(
    ("bottoms", "tops"),
    [("a", "b"), ("a b", "b a"), ("a", "c c")],
    ids=["another's", "not at its own place", "twice"],
)
def test_a_top_has_one_maker(bottoms, tops):
    param = LayerParameter(name="x", type="T", bottom=bottoms.split(), top=tops.split())
    with pytest.raises(GraphError) as caught:
        connect(param, {"a": 0, "b": 0}, {"a", "b"})
    assert 'layer "x" (T): top blob "' in str(caught.value)
    assert "made by another layer already" in str(caught.value)


def test_a_chain_in_place_is_one_blob():
    text = DATA + conv("c", "data")
    for name, kind in (("b", "BatchNorm"), ("s", "Scale"), ("r", "ReLU")):
        text += layer(name, kind, "c", "c")
    net = make_net(text + layer("d", "Dropout", "c", "c") + fc("f", "c"))
    assert list(net.blobs) == ["data", "label", "c", "f"]
    assert all(net.top_blobs[i][0] is net.blobs["c"] for i in range(1, 6))
    assert net.output_names == ["f", "label"]


# -- who runs backward -------------------------------------------------------


def test_data_wants_no_gradient():
    text = DATA + conv("c", "data") + fc("f", "c") + loss("l", "f label")
    assert plan(make_net(text)) == {"c": "n", "f": "y", "l": "yn"}


def test_frozen_layers_below_the_lowest_learner_skip_backward():
    text = (
        DATA
        + conv("c", "data", body=FROZEN)
        + layer("r", "ReLU", "c", "c")
        + conv("e", "c", body=FROZEN)
        + fc("f", "e")
        + loss("l", "f label")
    )
    assert plan(make_net(text)) == {"f": "n", "l": "yn"}


def test_frozen_layers_above_a_learner_pass_gradients_on():
    text = DATA + conv("c", "data") + fc("f", "c", body=FROZEN) + loss("l", "f label")
    net = make_net(text)
    assert plan(net) == {"c": "n", "f": "y", "l": "yn"}
    assert net.layers[2].param_propagate_down == [False, False]
    fill_inputs(net)
    net.forward_backward()
    assert not np.any(net.layers[2].blobs[0].diff)
    assert np.any(net.layers[1].blobs[0].diff)


def test_a_bias_alone_may_be_frozen_or_learned():
    text = (
        DATA
        + conv("c", "data", body="param { lr_mult: 0 }")
        + fc("f", "c", body="param { } param { lr_mult: 0 }")
        + loss("l", "f label")
    )
    net = make_net(text)
    fill_inputs(net)
    net.forward_backward()
    moved = [[bool(np.any(b.diff)) for b in x.blobs] for x in net.layers[1:3]]
    assert moved == [[False, True], [True, False]]


def test_all_frozen_runs_nothing():
    text = DATA + fc("f", "data", body=FROZEN) + loss("l", "f label")
    assert plan(make_net(text)) == {}


def test_layers_that_reach_no_loss_do_not_run():
    text = (
        DATA
        + conv("c", "data")
        + fc("f", "c")
        + loss("l", "f label")
        + conv("side", "c")
        + layer("p", "Pooling", "side", None, "pooling_param { kernel_size: 2 }")
        + layer("hush", "Silence", "p", "")
    )
    assert plan(make_net(text)) == {
        "c": "n", "c_c_0_split": "y", "f": "y", "l": "yn",
    }  # fmt: skip


def test_without_a_loss_nothing_runs():
    assert plan(make_net(DATA + fc("f", "data"))) == {}


def test_a_loss_weight_makes_any_layer_a_loss():
    net = make_net(DATA + fc("f", "data", body="loss_weight: 0.5"))
    assert plan(net) == {"f": "n"}
    fill_inputs(net)
    assert net.forward() == pytest.approx(0.5 * net.blobs["f"].data.sum(), rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.layers[1].blobs[1].diff, [4 * 0.5] * 5)


def test_a_loss_of_weight_zero_is_none():
    text = DATA + fc("f", "data") + loss("l", "f label", "loss_weight: 0")
    assert plan(make_net(text)) == {}


# -- propagate_down ----------------------------------------------------------


def test_propagate_down_false_stops_the_gradient():
    text = (
        DATA
        + conv("c", "data")
        + conv("e", "c", body="propagate_down: false")
        + fc("f", "e")
        + loss("l", "f label")
    )
    assert plan(make_net(text)) == {"e": "n", "f": "y", "l": "yn"}


def test_propagate_down_false_stops_one_of_two_ways():
    text = (
        DATA
        + conv("a", "data")
        + conv("b", "data")
        + layer("s", "Eltwise", "a b", None, "propagate_down: [true, false]")
        + fc("f", "s")
        + loss("l", "f label")
    )
    net = make_net(text)
    assert plan(net) == {"a": "n", "s": "yn", "f": "y", "l": "yn"}
    fill_inputs(net)
    net.forward_backward()
    a, b = net.layer_index("a"), net.layer_index("b")
    assert np.any(net.layers[a].blobs[0].diff)
    assert not np.any(net.layers[b].blobs[0].diff)


def test_propagate_down_true_asks_for_the_gradient_of_data():
    text = (
        DATA
        + conv("c", "data", body="propagate_down: true")
        + fc("f", "c")
        + loss("l", "f label")
    )
    net = make_net(text)
    assert plan(net) == {"c": "y", "f": "y", "l": "yn"}
    fill_inputs(net)
    net.forward_backward()
    assert np.any(net.blobs["data"].diff)


def test_propagate_down_must_be_given_for_every_bottom():
    text = DATA + fc("f", "data") + loss("l", "f label", "propagate_down: true")
    with pytest.raises(LayerError, match=r"once per bottom \(2\), not 1 times"):
        make_net(text)


def test_labels_cannot_be_asked_for_a_gradient():
    text = DATA + fc("f", "data")
    net = make_net(text + loss("l", "f label", "propagate_down: [true, true]"))
    fill_inputs(net)
    net.forward()
    with pytest.raises(LayerError, match=r'"l".*label'):
        net.backward()


# -- force_backward ----------------------------------------------------------


def test_force_backward_reaches_the_data_and_every_layer():
    text = DATA + conv("c", "data", body=FROZEN) + fc("f", "c") + loss("l", "f label")
    net = make_net("force_backward: true\n" + text)
    assert plan(net) == {"data": "", "c": "y", "f": "y", "l": "yn"}
    assert all(all(x.param_propagate_down) for x in net.layers)
    fill_inputs(net)
    net.forward_backward()
    assert np.any(net.blobs["data"].diff)
    assert np.any(net.layers[1].blobs[0].diff)


def test_force_backward_without_a_loss_starts_from_a_users_gradient():
    net = make_net("force_backward: true" + DATA + fc("f", "data", 2), phase=Phase.TEST)
    fill_inputs(net)
    net.forward()
    net.blobs["f"].diff[:, 1] = 1
    net.backward()
    weights = net.layers[1].blobs[0].data[1]
    for image in net.blobs["data"].diff:
        np.testing.assert_allclose(image.reshape(-1), weights, rtol=1e-6)


def test_force_backward_of_a_net_with_scores():
    """Caffe dies at such a net's first backward, as accuracy has no gradient."""
    text = (
        "force_backward: true"
        + DATA
        + fc("f", "data")
        + layer("acc", "Accuracy", "f label")
        + loss("l", "f label")
    )
    net = make_net(text)
    fill_inputs(net)
    net.forward_backward()
    with_scores = net.blobs["data"].diff.copy()
    plain = make_net(
        "force_backward: true" + DATA + fc("f", "data") + loss("l", "f label")
    )
    fill_inputs(plain)
    plain.forward_backward()
    np.testing.assert_array_equal(with_scores, plain.blobs["data"].diff)


def test_force_backward_through_a_layer_without_a_gradient():
    """As in Caffe an error, which here names the layer."""
    net = make_net("force_backward: true" + DATA + layer("arg", "ArgMax", "data"))
    fill_inputs(net)
    net.forward()
    with pytest.raises(LayerError, match=r'"arg".*cannot propagate gradients'):
        net.backward()


def test_forward_only_nets_have_no_backward():
    text = "force_backward: true" + DATA + fc("f", "data") + loss("l", "f label")
    net = make_net(text, forward_only=True)
    assert plan(net) == {}
    assert not any(x.will_backward for x in net.layers)
    fill_inputs(net)
    net.forward()
    net.backward()
    assert not np.any(net.layers[1].blobs[0].diff)
