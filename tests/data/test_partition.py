"""Databases cut into parts."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data import partition as module
from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.data.partition import PartitionSettings, partition
from poseidon_caffe.errors import DataError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.data import Data
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase, Shard

BACKENDS = ["lmdb", "leveldb"]


def make(path, count, backend="lmdb"):
    with create_db(str(path), backend) as writer:
        for i in range(count):
            image = np.full((1, 2, 3), i, np.uint8)
            writer.put(b"%08d" % i, array_to_datum(image, i).SerializeToString())
    return str(path)


def content(path, backend="lmdb"):
    database = open_db(path, backend)
    found = [(database.key(i), database.record(i)) for i in range(len(database))]
    database.close()
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("parts", [1, 3, 20])
def test_record_i_goes_to_part_i_mod_n(parts, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_OPEN_PARTS", 8)  # so that 20 need three passes
    source = make(tmp_path / "db", 50, backend)
    whole = content(source, backend)
    made = partition(PartitionSettings(f"{source}/", parts, backend=backend))
    assert made == [f"{source}_{part}" for part in range(parts)]
    for part, path in enumerate(made):
        assert content(path, backend) == whole[part::parts]
    assert content(source, backend) == whole
    assert len(list(tmp_path.iterdir())) == parts + 1


def batches(source, count, more, shard):
    param = parse_prototxt(
        'name: "d" type: "Data" top: "data" top: "label" data_param '
        f'{{ source: "{source}" backend: LMDB batch_size: 2 {more} }}',
        LayerParameter,
    )
    layer = Data(param, LayerContext(ReferenceOps(), Phase.TRAIN, shard=shard))
    top, found = [Blob(), Blob()], []
    layer.setup([], top)
    for _ in range(count):
        layer.forward([], top)
        found.append(top[1].data.ravel().tolist())
    layer.close()
    return found


def test_workers_see_what_they_would_be_dealt_from_the_whole(tmp_path):
    source = make(tmp_path / "db", 24)
    partition(PartitionSettings(source, 3))
    for rank in range(3):
        shard = Shard(rank, 3)
        own = batches(source, 10, "shared_file_system: false", shard)
        assert own == batches(source, 10, "", shard)


def test_other_names(tmp_path):
    source = make(tmp_path / "db", 4)
    made = partition(PartitionSettings(source, 2, str(tmp_path / "part")))
    assert made == [str(tmp_path / "part_0"), str(tmp_path / "part_1")]


def test_refused(tmp_path):
    source = make(tmp_path / "db", 4)
    with pytest.raises(DataError, match="4 records cannot be cut into 5 parts"):
        partition(PartitionSettings(source, 5))
    with pytest.raises(DataError, match="no such LMDB"):
        partition(PartitionSettings(str(tmp_path / "none"), 2))
    with pytest.raises(DataError, match="at least 1"):
        partition(PartitionSettings(source, 0))
    (tmp_path / "db_1").mkdir()
    with pytest.raises(DataError, match="db_1: already exists"):
        partition(PartitionSettings(source, 2))
    assert {path.name for path in tmp_path.iterdir()} == {"db", "db_1"}


def test_a_failure_on_the_way_leaves_no_part(tmp_path, monkeypatch):
    source = make(tmp_path / "db", 9)
    real = module.open_db

    def failing(path, backend):
        database = real(path, backend)
        read = database.record

        def record(index):
            if index == 7:
                raise DataError("record 7 is damaged")
            return read(index)

        database.record = record
        return database

    monkeypatch.setattr(module, "open_db", failing)
    with pytest.raises(DataError, match="record 7"):
        partition(PartitionSettings(source, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
