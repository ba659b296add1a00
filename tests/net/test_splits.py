from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import GraphError
from poseidon_caffe.net.splits import insert_splits, split_blob_name, split_layer_name
from poseidon_caffe.schema.upgrade import parse_net
from tests.net.support import (
    DATA,
    conv,
    fc,
    fill_inputs,
    gradients,
    layer,
    loss,
    make_net,
)


def split(text):
    """(name, type, bottoms, tops, loss weights) of every layer."""
    return [
        (x.name, x.type, list(x.bottom), list(x.top), list(x.loss_weight))
        for x in insert_splits(parse_net(text)).layer
    ]


def test_names_are_caffes():
    assert split_layer_name("conv1", "feat", 0) == "feat_conv1_0_split"
    assert split_blob_name("conv1", "feat", 1, 2) == "feat_conv1_1_split_2"


def test_one_reader_needs_no_split():
    text = DATA + fc("f", "data") + loss("loss", "f label")
    assert insert_splits(parse_net(text)) == parse_net(text)


def test_readers_get_parts_in_order_right_after_the_maker():
    text = DATA + fc("a", "data") + fc("b", "data") + loss("l", "a label")
    text += loss("m", "b label")
    names = [(x[0], x[2], x[3]) for x in split(text)]
    d, b = "data_data_0_split", "label_data_1_split"
    assert names == [
        ("data", [], ["data", "label"]),
        (d, ["data"], [f"{d}_0", f"{d}_1"]),
        (b, ["label"], [f"{b}_0", f"{b}_1"]),
        ("a", [f"{d}_0"], ["a"]),
        ("b", [f"{d}_1"], ["b"]),
        ("l", ["a", f"{b}_0"], ["l"]),
        ("m", ["b", f"{b}_1"], ["m"]),
    ]


def test_a_layer_may_read_a_blob_twice():
    text = DATA + layer("sum", "Eltwise", "data data")
    (_, inserted, total) = split(text)
    assert inserted[1] == "Split"
    assert total[2] == ["data_data_0_split_0", "data_data_0_split_1"]


def test_each_writer_in_place_is_a_maker_of_its_own():
    text = (
        DATA
        + conv("c", "data")
        + layer("r", "ReLU", "c", "c")
        + fc("a", "c")
        + fc("b", "c")
    )
    found = {x[0]: x[2] for x in split(text)}
    assert found["r"] == ["c"]
    assert found["c_r_0_split"] == ["c"]
    assert found["b"] == ["c_r_0_split_1"]


def test_a_blob_read_before_it_is_changed_in_place_cannot_be():
    """Caffe refuses too: the change would reach the other reader or not."""
    text = DATA + conv("c", "data") + fc("a", "c") + layer("r", "ReLU", "c", "c")
    with pytest.raises(GraphError, match=r'top blob "c" is made by another layer'):
        make_net(text)


def test_a_loss_that_others_read_hands_its_weight_to_the_first_part():
    text = DATA + fc("f", "data")
    text += loss("l", "f label", "loss_weight: 0.5") + layer("s", "Silence", "l", "")
    found = {x[0]: x for x in split(text)}
    name = "l_l_0_split"
    assert found["l"][4] == [0]
    assert found[name][3:] == ([f"{name}_0", f"{name}_1"], [0.5, 0])
    assert found["s"][2] == [f"{name}_1"]


def test_a_loss_nobody_else_reads_keeps_its_weight():
    text = DATA + fc("f", "data") + loss("l", "f label", "loss_weight: 0.5")
    assert [x[4] for x in split(text)] == [[], [], [0.5]]


def test_a_loss_is_counted_once_and_its_readers_gradient_is_added():
    body = "loss_weight: 0.5"
    plain = DATA + fc("f", "data") + loss("l", "f label", body)
    read = plain + layer(
        "p", "Power", "l", None, "power_param { scale: 3 } loss_weight: 2"
    )
    one, both = make_net(plain), make_net(read)
    for net in (one, both):
        fill_inputs(net)
    (alone, grads), (total, sums) = gradients(one), gradients(both)
    value = both.blobs["l"].data.item()
    assert alone == pytest.approx(0.5 * value)
    assert total == pytest.approx(0.5 * value + 2 * 3 * value)
    for a, b in zip(grads, sums, strict=True):
        np.testing.assert_allclose(b, 13 * a, rtol=1e-5, atol=1e-7)
    assert both.loss_weights["l"] == 0
    assert both.loss_weights["l_l_0_split_0"] == 0.5
    assert both.loss_weights["p"] == 2


def test_splits_keep_the_phase_of_their_maker():
    text = DATA + layer("r", "ReLU", "data", None, "phase: TEST")
    text += layer("a", "Silence", "r r", "")
    inserted = insert_splits(parse_net(text)).layer[2]
    assert inserted.type == "Split"
    assert inserted.phase == 1


def test_unknown_bottoms_name_the_layer_and_what_there_is():
    with pytest.raises(GraphError) as caught:
        split(DATA + fc("f", "dat"))
    text = str(caught.value)
    assert 'layer "f" (InnerProduct)' in text
    assert 'unknown bottom blob "dat" (bottom 0)' in text
    assert "data, label" in text
    with pytest.raises(GraphError, match="blobs made before it: none"):
        split(fc("f", "data") + DATA)


def test_the_given_net_is_left_alone():
    net = parse_net(DATA + layer("s", "Silence", "data data", ""))
    before = net.SerializeToString(deterministic=True)
    insert_splits(net)
    assert net.SerializeToString(deterministic=True) == before
