"""Data against Caffe's own batches, and what Caffe's cannot do: shard and resume."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import DataError, LayerError, ParseError, ShapeError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.data import RESTARTING, Data
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase, Shard

CASES = (
    "raw",
    "raw_scale_mean_values",
    "raw_one_mean_value",
    "raw_crop",
    "raw_crop_mean_file",
    "png",
    "png_gray",
    "leveldb_gray",
    "rand_skip_none_no_label",
)
SOURCE = 'source: "raw_lmdb" backend: LMDB'


@pytest.fixture(scope="module")
def data_dir(golden, tmp_path_factory):
    """A copy: LevelDB writes into a database that it reads."""
    folder = tmp_path_factory.mktemp("data") / "data"
    shutil.copytree(golden / "data", folder)
    return folder


@pytest.fixture(autouse=True)
def inside(data_dir, monkeypatch):
    monkeypatch.chdir(data_dir)


@pytest.fixture
def build():
    """Makes layers from prototxt, closed at the end."""
    made = []

    def make(text, tops=2, channels_last=False, **context):
        if not text.startswith("layer"):
            text = f'layer {{ name: "d" type: "Data" {text} }}'
        param = parse_prototxt(text, NetParameter).layer[0]
        context.setdefault("phase", Phase.TEST)
        layer = Data(param, LayerContext(ReferenceOps(), **context))
        made.append(layer)
        top = [Blob(channels_last=channels_last) for _ in range(tops)]
        layer.setup([], top)
        return layer, top

    yield make
    for layer in made:
        layer.close()


def batches(layer, top, count):
    found = []
    for _ in range(count):
        layer.forward([], top)
        found.append([blob.data.copy() for blob in top])
    return found


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_of_caffe(case, prefetch, channels_last, build, data_dir):
    with np.load(data_dir / "batches.npz") as stored:
        text = str(stored[f"{case}/net"])
        tops = parse_prototxt(text, NetParameter).layer[0].top
        layer, top = build(
            text, len(tops), channels_last=channels_last, prefetch=prefetch
        )
        for count in range(4):
            layer.forward([], top)
            for name, blob in zip(tops, top, strict=True):
                expected = stored[f"{case}/{count}/{name}"]
                assert blob.shape == expected.shape
                np.testing.assert_allclose(blob.data, expected, atol=1e-4, rtol=0)


def test_tops_are_shaped_before_the_first_batch(build):
    _, top = build(
        f"transform_param {{ crop_size: 7 }} data_param {{ {SOURCE} batch_size: 2 }}"
    )
    assert [blob.shape for blob in top] == [(2, 3, 7, 7), (2,)]


def test_a_view_that_the_user_holds_shows_the_next_batch(build):
    layer, top = build(f"data_param {{ {SOURCE} batch_size: 2 }}")
    layer.forward([], top)
    view, first = top[0].data, top[0].data.copy()
    layer.forward([], top)
    assert np.shares_memory(view, top[0].data)
    assert not np.array_equal(view, first)


RANDOM = (
    "transform_param { crop_size: 9 mirror: true scale: 0.5 mean_value: 3 } "
    f"data_param {{ {SOURCE} batch_size: %d rand_skip: 11 }}"
)


@pytest.mark.parametrize("world", [2, 3])
def test_workers_together_read_what_one_would(world, build):
    whole = batches(*build(RANDOM % (2 * world), phase=Phase.TRAIN, seed=5), 5)
    parts = [
        batches(*build(RANDOM % 2, phase=Phase.TRAIN, seed=5, shard=Shard(r, world)), 5)
        for r in range(world)
    ]
    for step, expected in enumerate(whole):
        for r in range(world):
            for got, every in zip(parts[r][step], expected, strict=True):
                np.testing.assert_array_equal(got, every[r::world])


def test_workers_deal_whole_batches_in_tests(build):
    text = f"data_param {{ {SOURCE} batch_size: 4 }}"
    whole = batches(*build(text), 9)
    layers = [build(text, shard=Shard(r, 2, by_batch=True)) for r in range(2)]
    notes = []
    layers[0][0].note = notes.append
    for k, expected in enumerate(whole):
        for r, (layer, top) in enumerate(layers):
            if k % 2 == r:
                (got,) = batches(layer, top, 1)
                for a, b in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(a, b)
            else:
                layer.skip_batch()
    assert layers[0][0].state() == layers[1][0].state()
    assert len(notes) == 9 * 4 // layers[0][0].record_count


def test_a_resumed_layer_goes_on_exactly(build):
    through = batches(*build(RANDOM % 4, phase=Phase.TRAIN, seed=9), 8)
    first, top = build(RANDOM % 4, phase=Phase.TRAIN, seed=9)
    batches(first, top, 3)
    state = first.state()
    second, top = build(RANDOM % 4, phase=Phase.TRAIN, seed=9)
    batches(second, top, 1)
    second.restore_state(state)
    for got, expected in zip(batches(second, top, 5), through[3:], strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_number_of_workers_may_resume(build):
    through = batches(*build(RANDOM % 4, phase=Phase.TRAIN, seed=9), 4)
    first, top = build(RANDOM % 4, phase=Phase.TRAIN, seed=9)
    batches(first, top, 2)
    for rank in range(2):
        layer, top = build(RANDOM % 2, phase=Phase.TRAIN, seed=9, shard=Shard(rank, 2))
        layer.restore_state(first.state())
        got = batches(layer, top, 1)[0]
        np.testing.assert_array_equal(got[0], through[2][0][rank::2])


def test_seeds_and_phases_decide_what_is_random(build):
    train = batches(*build(RANDOM % 6, phase=Phase.TRAIN, seed=1), 2)
    again = batches(*build(RANDOM % 6, phase=Phase.TRAIN, seed=1), 2)
    other = batches(*build(RANDOM % 6, phase=Phase.TRAIN, seed=2), 2)
    np.testing.assert_array_equal(train[1][0], again[1][0])
    assert not np.array_equal(train[1][0], other[1][0])


def test_the_end_of_an_epoch_is_noted(build):
    layer, top = build(f"data_param {{ {SOURCE} batch_size: 5 }}")
    notes = []
    layer.note = notes.append
    batches(layer, top, 2)
    assert notes == []
    batches(layer, top, 1)
    assert notes == [RESTARTING]
    batches(layer, top, 3)
    assert notes == [RESTARTING] * 2


def test_a_shared_source_is_counted(build, data_dir):
    layer, _ = build(f"data_param {{ {SOURCE} batch_size: 5 }}")
    assert layer.state_is_shared
    assert layer.record_count > 5


def test_sources_of_their_own(build, data_dir):
    shutil.copytree(data_dir / "raw_lmdb", data_dir / "own_1", dirs_exist_ok=True)
    text = 'source: "own" backend: LMDB batch_size: 3 shared_file_system: false'
    layer, top = build(f"data_param {{ {text} }}", shard=Shard(1, 2))
    assert batches(layer, top, 1)[0][1].tolist() == [0, 1, 2]
    assert not layer.state_is_shared
    assert layer.record_count is None
    test, top = build(f"data_param {{ {text} }}", shard=Shard(1, 2, by_batch=True))
    test.skip_batch()
    assert batches(test, top, 1)[0][1].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="own_0: no such LMDB"):
        build(f"data_param {{ {text} }}", shard=Shard(0, 2))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            'source: "nowhere" backend: LMDB batch_size: 1',
            DataError,
            "nowhere: no such",
        ),
        ("backend: LMDB batch_size: 1", LayerError, "has no source"),
        (SOURCE, LayerError, "batch_size must be at least 1"),
        ('source: "raw_lmdb" batch_size: 1', DataError, "backend: LMDB"),
    ],
)
def test_wrong_settings_name_the_layer(text, error, message, build):
    with pytest.raises(error, match=message) as caught:
        build(f"data_param {{ {text} }}")
    assert 'layer "d" (Data)' in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("crop_size: 21", ShapeError, "crop_size 21 is larger than the image of 20x24"),
        ("mean_value: 1 mean_value: 2", ShapeError, "2 mean_value for 3 channels"),
        ('mean_value: 1 mean_file: "mean.binaryproto"', LayerError, "exclude each"),
        ("force_gray: true force_color: true", LayerError, "exclude each other"),
        ('mean_file: "no.binaryproto"', ParseError, "no.binaryproto"),
    ],
)
def test_wrong_transformations_are_refused(text, error, message, build):
    with pytest.raises(error, match=message):
        build(f"transform_param {{ {text} }} data_param {{ {SOURCE} batch_size: 1 }}")
    # Nothing stays open: the database can be opened by others.
    build(f"data_param {{ {SOURCE} batch_size: 1 }}")[0].close()


def test_examples_build_and_run(build):
    for example in Data.examples():
        layer, top = build(example.param, example.num_top, phase=example.phase)
        batches(layer, top, 3)


def test_two_layers_of_one_net_each_see_all_records(tmp_path):
    layer = (
        'layer {{ name: "{0}" type: "Data" top: "{0}" top: "{0}_label" '
        f"data_param {{{{ {SOURCE} batch_size: {{1}} }}}} }}}}"
    )
    path = tmp_path / "net.prototxt"
    path.write_text(layer.format("a", 13) + layer.format("b", 4))
    train, test = (caffe.Net(str(path), phase) for phase in (caffe.TRAIN, caffe.TEST))
    train.forward()
    every = train.blobs["a"].data.copy()
    seen = {id(net): [] for net in (train, test)}
    for step in range(13):
        # The nets take turns, one ahead of the other.
        for net in (train, test) if step % 2 else (test, train, test):
            net.forward()
            np.testing.assert_array_equal(net.blobs["a"].data, every)
            seen[id(net)].append(net.blobs["b"].data.copy())
    for first, net in ((4, train), (0, test)):
        got = np.concatenate(seen[id(net)])
        want = [(first + i) % 13 for i in range(len(got))]
        np.testing.assert_array_equal(got, every[want])
