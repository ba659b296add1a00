from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.net.memory import Life, place
from poseidon_caffe.types import Phase
from tests.net.support import (
    DATA,
    assert_same,
    conv,
    fc,
    fill_inputs,
    golden_param,
    gradients,
    layer,
    loss,
    make_net,
)
from tests.net.test_fuse import NETS

# -- placing -----------------------------------------------------------------


@st.composite
def all_lives(draw):
    lives = []
    for _ in range(draw(st.integers(0, 25))):
        first, length = draw(st.integers(0, 20)), draw(st.integers(0, 12))
        count = draw(st.one_of(st.integers(0, 40), st.integers(0, 5000)))
        lives.append(Life(count, first, first + length))
    return lives


@given(all_lives())
def test_lives_that_meet_never_overlap(lives):
    offsets, total = place(lives)
    ends = [at + life.count for at, life in zip(offsets, lives, strict=True)]
    assert all(
        0 <= at <= total and end <= total for at, end in zip(offsets, ends, strict=True)
    )
    for i, j in itertools.combinations(range(len(lives)), 2):
        if lives[i].meets(lives[j]) and lives[i].count and lives[j].count:
            assert ends[i] <= offsets[j] or ends[j] <= offsets[i]


@given(all_lives())
def test_places_are_aligned_and_room_is_not_wasted_without_end(lives):
    offsets, total = place(lives)
    assert all(at % 16 == 0 for at in offsets)
    assert total <= sum(-(-life.count // 16) * 16 for life in lives)
    for step in range(40):
        alive = sum(x.count for x in lives if x.first <= step <= x.last)
        assert total >= alive


def test_lives_apart_share_their_place():
    lives = [Life(100, 0, 3), Life(60, 4, 9), Life(30, 4, 5), Life(100, 2, 4)]
    offsets, total = place(lives)
    assert offsets == [0, 0, 64, 112]
    assert total == 212


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_meeting_is_having_a_step_in_common(a, b, c, d):
    one, other = Life(1, min(a, b), max(a, b)), Life(1, min(c, d), max(c, d))
    steps = [set(range(x.first, x.last + 1)) for x in (one, other)]
    assert one.meets(other) is other.meets(one) is bool(steps[0] & steps[1])


def test_extend():
    life = Life(5, 3, 3)
    life.extend(9, 7)
    life.extend(2, 1)
    assert life == Life(9, 1, 7)


# -- nets --------------------------------------------------------------------


def held_bytes(net):
    """Memory of all activations and their gradients, shared pieces once."""
    owners = {}
    for blob in net.blobs.values():
        for storage in (blob.data_storage, blob.diff_storage):
            array = storage.raw
            while isinstance(array.base, np.ndarray):
                array = array.base
            owners[id(array)] = array.nbytes
    return sum(owners.values())


def assert_same_computation(text, classes=5, times=3, less=1.0, **options):
    """Sharing changes no bit, and takes at most ``less`` of the memory."""
    plain = make_net(text, **options)
    shared = make_net(text, share_memory=True, **options)
    for net in (plain, shared):
        fill_inputs(net, classes)
    for _ in range(times):
        (loss_one, one), (loss_two, two) = gradients(plain), gradients(shared)
        assert loss_one == loss_two
        assert_same(one, two)
    assert held_bytes(shared) <= less * held_bytes(plain)
    return plain, shared


@pytest.mark.parametrize(
    ("name", "batch", "less", "fuse"),
    [
        ("lenet_train", 2, 0.8, False),
        ("lenet_train", 2, 0.8, True),
        ("cifar10_quick_train", 2, 0.8, True),
        ("cifar10_full_train", 1, 0.8, False),
        ("resnet20_train", 1, 0.8, False),
        ("resnet20_train", 1, 0.8, True),
        ("googlenet_train", 1, 0.7, True),
    ],
)
def test_published_nets(name, batch, less, fuse):
    param = golden_param(name, batch)
    assert_same_computation(param, 10, 2, less, fuse=fuse)


@pytest.mark.parametrize("name", NETS)
def test_small_nets(name):
    assert_same_computation(NETS[name])


def test_scoring_needs_little():
    param = golden_param("resnet20_train", 1)
    options = {"phase": Phase.TEST, "forward_only": True}
    plain = make_net(param, **options)
    shared = make_net(param, share_memory=True, fuse=True, **options)
    for net in (plain, shared):
        fill_inputs(net)
    assert shared.forward() == pytest.approx(plain.forward(), rel=1e-5)
    assert shared.forward() == pytest.approx(plain.forward(), rel=1e-5)
    assert held_bytes(shared) < 0.2 * held_bytes(plain)


HEAD = fc("f", "c") + loss("loss", "f label")


@pytest.mark.parametrize(
    "first", ["accuracy", "loss"], ids=["score reads first", "loss reads first"]
)
def test_a_score_in_training_adds_nothing_to_the_gradient(first):
    """Its part of the split gets no gradient and must stay zero, not be reused."""
    both = [layer("acc", "Accuracy", "f label"), loss("loss", "f label")]
    text = DATA + conv("c", "data") + layer("r", "ReLU", "c", "c") + fc("f", "c")
    text += "".join(both if first == "accuracy" else reversed(both))
    assert_same_computation(text)


def test_a_loss_that_others_read_keeps_its_weight():
    text = (
        DATA
        + conv("c", "data")
        + fc("f", "c")
        + loss("loss", "f label", "loss_weight: 2")
        + layer("p", "Power", "loss", None, "power_param { scale: 3 } loss_weight: 1")
    )
    assert_same_computation(text)


def test_a_sum_that_is_a_loss_keeps_its_weight():
    text = (
        DATA
        + conv("a", "data")
        + layer("ra", "ReLU", "a", "a")
        + conv("b", "data")
        + layer("s", "Eltwise", "a b", None, "loss_weight: 0.5")
    )
    assert_same_computation(text)


def test_parts_that_want_no_gradient_stay_zero():
    slices = "slice_param { axis: 1 slice_point: 1 slice_point: 3 }"
    text = (
        DATA
        + conv("c", "data")
        + layer("cut", "Slice", "c", "c1 c2 c3", slices)
        + layer("hush", "Silence", "c1", "")
        + fc("f", "c2", body="propagate_down: false")
        + fc("g", "c3")
        + loss("l1", "f label")
        + loss("l2", "g label")
    )
    assert_same_computation(text)


def test_sums_in_a_row_and_of_one_blob():
    text = DATA + conv("c", "data")
    text += layer("s", "Eltwise", "c c") + layer("r", "ReLU", "s", "s")
    text += conv("d", "s") + layer("t", "Eltwise", "s d")
    text += layer("u", "Eltwise", "t c t", None, "eltwise_param { coeff: [1, 2, 3] }")
    text += layer("v", "Eltwise", "u t", None, "eltwise_param { operation: PROD }")
    assert_same_computation(text + fc("f", "v") + loss("loss", "f label"))


def test_views_and_joins():
    shape = "reshape_param { shape { dim: 0 dim: -1 dim: 8 } }"
    text = (
        DATA
        + conv("c", "data")
        + layer("flat", "Flatten", "c")
        + layer("again", "Reshape", "c", None, shape)
        + layer("flat2", "Flatten", "again")
        + layer("both", "Concat", "flat flat2")
        + layer("d", "Dropout", "both", "both")
    )
    assert_same_computation(text + fc("f", "both") + loss("loss", "f label"))


def test_a_crop_gives_nothing_to_what_it_takes_the_size_of():
    """No gradient comes from there, and other values may stand in its memory."""
    text = DATA + layer("b", "Bias", "data") + layer("size", "Bias", "b")
    text += layer("cut", "Crop", "b size", None, "crop_param { axis: 2 }")
    text += fc("h", "cut", 6) + layer("r", "ReLU", "h", "h")
    assert_same_computation(text + fc("f", "h") + loss("loss", "f label"))


def test_force_backward_with_data_that_has_no_bottom():
    dummy = "dummy_data_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } }"
    text = "force_backward: true" + DATA + layer("more", "DummyData", "", None, dummy)
    text += layer("s", "Eltwise", "data more") + conv("c", "s") + HEAD
    assert_same_computation(text)


def test_outputs_data_losses_and_parameters_keep_their_values():
    text = NETS["inception"] + fc("side", "data", 3)
    plain, shared = make_net(text), make_net(text, share_memory=True)
    for net in (plain, shared):
        fill_inputs(net)
        gradients(net)
    assert shared.output_names == ["loss", "side"]
    for name in ("data", "label", "loss", "side"):
        kept = shared.blobs[name].data
        np.testing.assert_array_equal(kept, plain.blobs[name].data)
    assert_same([b.data for b in shared.params], [b.data for b in plain.params])


def test_debug_info_switches_sharing_off():
    net = make_net("debug_info: true" + NETS["inception"], share_memory=True)
    plain = make_net(NETS["inception"])
    for each in (net, plain):
        fill_inputs(each)
        each.forward_backward()
    assert held_bytes(net) == held_bytes(plain)


def test_a_net_of_nothing_but_data():
    net = make_net(DATA, share_memory=True)
    assert net.forward() == 0
    net.backward()
