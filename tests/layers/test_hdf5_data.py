from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import DataError, LayerError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.hdf5_data import HDF5Data
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase, Shard

NET = (
    'layer {{ name: "d" type: "HDF5Data" top: "data" top: "label" '
    'hdf5_data_param {{ source: "{source}" batch_size: {size} {more} }} {rest} }}'
)


@pytest.fixture(autouse=True)
def inside(golden, tmp_path, monkeypatch):
    """Paths in the list count from the working folder, as in Caffe."""
    for name in ("part0.h5", "part1.h5", "h5_list.txt"):
        shutil.copy(golden / "data" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def build():
    made = []

    def make(size=3, source="h5_list.txt", more="", rest="", text="", **context):
        channels_last = context.pop("channels_last", False)
        text = text or NET.format(source=source, size=size, more=more, rest=rest)
        param = parse_prototxt(text, NetParameter).layer[0]
        context.setdefault("phase", Phase.TEST)
        layer = HDF5Data(param, LayerContext(ReferenceOps(), **context))
        made.append(layer)
        dtype = context.get("dtype", np.float32)
        top = [Blob(dtype=dtype, channels_last=channels_last) for _ in param.top]
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


def assert_equal(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
def test_batches_are_those_of_caffe(prefetch, channels_last, build, golden):
    with np.load(golden / "data" / "batches.npz") as stored:
        text = str(stored["hdf5/net"])
        layer, top = build(text=text, prefetch=prefetch, channels_last=channels_last)
        assert [b.shape for b in top] == [(3, 2, 3, 4), (3,), (3, 5)]
        for count, batch in enumerate(batches(layer, top, 4)):
            for name, got in zip(("data", "label", "aux"), batch, strict=True):
                np.testing.assert_array_equal(got, stored[f"hdf5/{count}/{name}"])


@pytest.mark.parametrize("more", ["", "shuffle: true"])
@pytest.mark.parametrize("world", [2, 3])
def test_workers_together_read_what_one_would(world, more, build):
    whole = batches(*build(2 * world, more=more, seed=5), 7)
    parts = [
        batches(*build(2, more=more, seed=5, shard=Shard(r, world)), 7)
        for r in range(world)
    ]
    for step, expected in enumerate(whole):
        for r in range(world):
            assert_equal(parts[r][step], [each[r::world] for each in expected])


def test_workers_deal_whole_batches_in_tests(build):
    whole = batches(*build(4), 9)
    layers = [build(4, shard=Shard(r, 2, by_batch=True)) for r in range(2)]
    for k, expected in enumerate(whole):
        for r, (layer, top) in enumerate(layers):
            if k % 2 == r:
                assert_equal(batches(layer, top, 1)[0], expected)
            else:
                layer.skip_batch()
    assert layers[0][0].state() == layers[1][0].state()


@pytest.mark.parametrize("more", ["", "shuffle: true"])
def test_a_resumed_layer_goes_on_exactly(more, build):
    layer, top = build(more=more, seed=8)
    batches(layer, top, 5)
    state = layer.state()
    expected = batches(layer, top, 6)
    resumed = build(more=more, seed=99)
    batches(*resumed, 1)
    resumed[0].restore_state(state)
    for a, b in zip(batches(*resumed, 6), expected, strict=True):
        assert_equal(a, b)
    with pytest.raises(DataError, match="not a position"):
        layer.restore_state({"next_record": -1})


def test_shuffled_epochs_hold_every_row_once(build):
    layer, top = build(11, more="shuffle: true", seed=1)
    rows = batches(*build(11), 1)[0][0].reshape(11, -1)
    seen = [batch[0].reshape(11, -1) for batch in batches(layer, top, 3)]
    for epoch in seen:
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, rows))
    assert not np.array_equal(seen[0], seen[1])


def test_a_list_of_its_own_for_each_worker(build, tmp_path):
    (tmp_path / "h5_list.txt_1").write_text("part1.h5\n")
    own = "shared_file_system: false"
    layer, top = build(7, more=own, shard=Shard(1, 2))
    with h5py.File("part1.h5") as file:
        np.testing.assert_array_equal(batches(layer, top, 1)[0][0], file["data"])
    assert layer.record_count is None
    assert not layer.state_is_shared


def test_doubles(build, tmp_path):
    with h5py.File("d.h5", "w") as file:
        file["data"], file["label"] = np.array([0.1, 1 / 3]), np.arange(2)
    (tmp_path / "d.txt").write_text("d.h5")
    layer, top = build(2, source="d.txt", dtype=np.float64)
    assert batches(layer, top, 1)[0][0].tolist() == [0.1, 1 / 3]


def test_failures_name_the_layer(build, tmp_path):
    with pytest.raises(LayerError, match=r'"d" \(HDF5Data\): does not transform'):
        build(rest="transform_param { scale: 2 }")
    with pytest.raises(LayerError, match="batch_size"):
        build(0)
    with pytest.raises(LayerError, match="no source"):
        build(source="")
    with pytest.raises(DataError, match=r'"d" .*none.txt: the list'):
        build(source="none.txt")
    (tmp_path / "h5_list.txt").write_text("part0.h5 gone.h5")
    with pytest.raises(DataError, match=r'"d" .*gone.h5: no such'):
        build()
