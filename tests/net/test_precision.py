"""Nets whose activations have 16 bits: where casts stand, and what comes out."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from poseidon_caffe.backend.half import BFLOAT16, HALF
from poseidon_caffe.net.filtering import filter_net, net_state
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.net.precision import insert_casts
from poseidon_caffe.net.splits import insert_splits
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.devices import gpu_ops
from tests.net.support import DATA, conv, fc, golden_param, layer, loss

PRECISIONS = {"bf16": BFLOAT16, "fp16": HALF}
STEP = {"fp32": 0.0, "bf16": 2.0**-8, "fp16": 2.0**-11}
SCORE = layer("acc", "Accuracy", "f label")
PLAIN = DATA + conv("c", "data") + layer("r", "ReLU", "c", "c") + fc("f", "c")
BN = (
    layer("bn", "BatchNorm", "c", "c")
    + layer("s", "Scale", "c", "c", "scale_param { bias_term: true }")
    + layer("r", "ReLU", "c", "c")
)
RICH = (
    DATA
    + conv("c", "data")
    + BN
    + layer("p", "Pooling", "c", None, "pooling_param { kernel_size: 3 stride: 2 }")
    + conv("d", "p")
    + layer("e", "Eltwise", "p d")
    + layer("e_r", "ReLU", "e", "e")
    + layer("n", "LRN", "e", None, "lrn_param { local_size: 3 alpha: 0.1 }")
    + conv("g", "e", "num_output: 2 kernel_size: 1")
    + layer("h", "Concat", "n g")
    + layer("t", "TanH", "h", "h")
    + layer("drop", "Dropout", "h", "h", "dropout_param { dropout_ratio: 0.2 }")
    + fc("f", "h", 20)
    + loss("loss", "f label")
)


def casts_of(text, dtype=BFLOAT16):
    """(bottom, top) of each cast, the blobs of 16 bits, and the net."""
    param = parse_net(text) if isinstance(text, str) else text
    train = filter_net(param, net_state(Phase.TRAIN, 0, []))
    param, dtypes = insert_casts(insert_splits(train), dtype)
    found = [(one.bottom[0], one.top[0]) for one in param.layer if one.type == "Cast"]
    return found, set(dtypes), param


# -- where casts stand ---------------------------------------------------------


def test_without_a_type_of_16_bits_nothing_changes():
    param = insert_splits(parse_net(RICH))
    same, dtypes = insert_casts(param, None)
    assert same is param
    assert dtypes == {}


def test_a_chain_is_cast_where_it_begins_and_where_it_ends():
    found, half, _ = casts_of(PLAIN + loss("loss", "f label"))
    assert found == [("data", "data_bf16"), ("f", "f_fp32")]
    assert half == {"data_bf16", "c", "f"}


def test_a_score_and_a_loss_share_one_cast():
    found, half, _ = casts_of(PLAIN + loss("loss", "f label") + SCORE)
    assert found == [("data", "data_bf16"), ("f", "f_fp32")]
    assert half == {"data_bf16", "c", "f"}


def test_branches_share_one_cast_of_the_data():
    text = DATA + conv("a", "data") + conv("b", "data") + layer("e", "Eltwise", "a b")
    found, half, param = casts_of(text + fc("f", "e") + loss("loss", "f label"))
    assert [pair[0] for pair in found] == ["data", "f"]
    assert {"a", "b", "e", "f", "data_bf16"} < half
    assert param.layer[2].type == "Split"


def test_a_rich_net_needs_two_casts():
    found, _, _ = casts_of(RICH)
    assert found == [("data", "data_bf16"), ("f", "f_fp32")]


def test_outputs_of_the_net_keep_name_and_type():
    found, half, param = casts_of(PLAIN)
    assert found == [("data", "data_bf16"), ("f_bf16", "f")]
    assert half == {"data_bf16", "c", "f_bf16"}
    assert [one.name for one in param.layer][-2:] == ["f", "f_fp32"]


def test_a_layer_of_float32_in_place_keeps_the_blob_s_name():
    text = PLAIN + layer("prob", "Softmax", "f", "f")
    found, half, param = casts_of(text)
    assert found == [("data", "data_bf16"), ("f_bf16", "f")]
    assert "f" not in half
    last = param.layer[-1]
    assert (last.name, list(last.bottom), list(last.top)) == ("prob", ["f"], ["f"])


def test_labels_are_never_rounded():
    text = (
        DATA
        + layer("twice", "Power", "label", None, "power_param { scale: 2 }")
        + layer("flat", "Flatten", "twice")
        + fc("f", "data")
        + loss("loss", "f flat")
    )
    _, half, _ = casts_of(text)
    assert not {"label", "twice", "flat"} & half


def test_arithmetic_on_float32_stays_float32():
    text = DATA + layer("p", "Power", "data") + conv("c", "p") + fc("f", "c")
    found, _, _ = casts_of(text)
    assert found[0] == ("p", "p_bf16")


def test_a_mask_of_winners_stays_exact():
    pool = layer(
        "p", "Pooling", "c", "p mask", "pooling_param { kernel_size: 2 stride: 2 }"
    )
    _, half, _ = casts_of(DATA + conv("c", "data") + pool)
    assert half == {"data_bf16", "c"}


def test_a_crop_does_not_convert_what_gives_only_its_size():
    crop = layer("crop", "Crop", "c data", None, "crop_param { axis: 2 }")
    text = DATA + conv("c", "data", "num_output: 2 kernel_size: 3 pad: 2") + crop
    text += conv("d", "crop") + layer("prob", "Softmax", "data")
    found, half, _ = casts_of(text)
    assert [pair[0] for pair in found] == ["data_data_0_split_0", "d_bf16"]
    assert "crop" in half


def test_a_layer_with_a_loss_weight_works_in_float32():
    power = layer("p", "Power", "c", None, "loss_weight: 0.5")
    found, half, _ = casts_of(DATA + conv("c", "data") + power)
    assert found == [("data", "data_bf16"), ("c", "c_fp32")]
    assert "p" not in half


def test_names_that_are_taken():
    text = PLAIN.replace('"c"', '"data_bf16"') + loss("f_fp32", "f label")
    found, _, param = casts_of(text)
    assert found == [("data", "data_bf16_2"), ("f", "f_fp32_2")]
    names = [one.name for one in param.layer]
    assert len(set(names)) == len(names)


def test_a_net_without_products_stays_as_it_is():
    pool = layer("p", "Pooling", "data", None, "pooling_param { kernel_size: 2 }")
    assert casts_of(DATA + pool)[0] == []


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("lenet_train", ["ip2"]),
        ("alexnet_train", ["fc8"]),
        ("resnet20_train", ["fc"]),
        ("googlenet_train", [f"loss{i}/classifier" for i in (1, 2, 3)]),
    ],
)
def test_published_nets_are_cast_at_data_and_scores_only(name, scores):
    found, _, _ = casts_of(golden_param(name, 1))
    assert [bottom for bottom, _ in found] == ["data", *scores]


# -- what comes out ------------------------------------------------------------


def build(text, precision, *, phase=Phase.TRAIN, classes=5, **options):
    """A net on the GPU backend with inputs filled."""
    net = Net(
        parse_net(text), ops=gpu_ops(precision), phase=phase, seed=1,
        options=NetOptions(**options),
    )  # fmt: skip
    for name in net.input_names:
        blob = net.blobs[name]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if len(blob.shape) > 1:
            blob.mutable_cpu_data[...] = rng.standard_normal(blob.shape)
        else:
            blob.mutable_cpu_data[...] = rng.integers(0, classes, blob.shape)
    return net


def run(net):
    """The loss and copies of all gradients, of one pass."""
    net.clear_param_diffs()
    value = net.forward_backward()
    return value, [blob.cpu_diff.copy() for blob in net.learnable]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "tuned"])
def test_a_rich_net_comes_near_to_float32(precision, tuned):
    options = {"fuse": tuned, "share_memory": tuned, "capture": tuned}
    want, expected = run(build(RICH, "fp32"))
    net = build(RICH, precision, **options)
    assert net.blobs["e"].dtype == PRECISIONS[precision]
    assert all(blob.dtype == np.float32 for blob in net.params)
    got, gradients = run(net)
    step = STEP[precision]
    assert got == pytest.approx(want, rel=8 * step)
    # The gradient of a bias before BatchNorm is zero but for what rounding leaves.
    least = 0.05 * max(np.linalg.norm(theirs) for theirs in expected)
    for ours, theirs in zip(gradients, expected, strict=True):
        error = np.linalg.norm(ours - theirs)
        assert error <= 30 * step * max(np.linalg.norm(theirs), least)
    for _ in range(3):
        # The dropout goes on; nothing is left of one pass in the next.
        again, _ = run(net)
        assert again == pytest.approx(want, rel=0.3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_labels_of_999_are_exact(precision):
    text = PLAIN.replace("num_output: 5", "num_output: 1000") + loss("l", "f label")
    net = build(text, precision)
    net.blobs["label"].mutable_cpu_data[...] = [999, 998, 257, 999]
    want = build(text, "fp32")
    want.blobs["label"].mutable_cpu_data[...] = [999, 998, 257, 999]
    assert run(net)[0] == pytest.approx(run(want)[0], rel=4 * STEP[precision])
    probable = net.blobs["f"].cpu_diff if "f" in net.blobs else None
    assert probable is not None
    assert [int(row.argmin()) for row in probable] == [999, 998, 257, 999]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_blobs_look_like_float32_to_the_host(precision):
    net = build(PLAIN, precision, phase=Phase.TEST)
    net.forward()
    blob = net.blobs["c"]
    assert blob.dtype.itemsize == 2
    assert blob.cpu_data.dtype == np.float32
    values = blob.cpu_data.copy()
    np.testing.assert_array_equal(blob.cpu_data, values)
    blob.mutable_cpu_data[...] = 2 * values + 1
    _ = blob.data
    wide = 2 * values + 1
    assert np.abs(blob.cpu_data - wide).max() <= STEP[precision] * np.abs(wide).max()
    assert net.blobs["f"].dtype == np.float32


def test_a_float64_net_is_not_cast():
    ops = gpu_ops("bf16")
    net = Net(parse_net(PLAIN), ops=ops, phase=Phase.TEST, dtype=np.float64)
    assert {blob.dtype for blob in net.blobs.values()} == {np.dtype(np.float64)}


def test_memory_of_activations_is_about_half():
    full, half = build(RICH, "fp32"), build(RICH, "bf16")
    assert half.memory_bytes < 0.75 * full.memory_bytes
