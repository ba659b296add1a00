"""Databases written in plain Python, read by LevelDB itself and by our reader."""

from __future__ import annotations

import random

import pytest

from poseidon_caffe.data import level_db_writer
from poseidon_caffe.data.level_db_reader import LevelReader
from poseidon_caffe.data.level_db_writer import LevelBuilder


def records(count, *, mixed=False, seed=1):
    draw = random.Random(seed)
    keys = [b"%08d" % i for i in range(count)]
    if mixed:
        keys = [draw.choice(keys) for _ in keys]
    return [(key, draw.randbytes(draw.randrange(400))) for key in keys]


def build(folder, written):
    folder.mkdir()
    builder = LevelBuilder(folder)
    for key, value in written:
        builder.put(key, value)
    builder.finish()
    return sorted(dict(written).items())


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("pending_bytes", [30_000, 1 << 30])
def test_leveldb_reads_it_and_goes_on(mixed, pending_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(level_db_writer, "_PENDING_BYTES", pending_bytes)
    folder = tmp_path / "db"
    content = build(folder, records(3000, mixed=mixed))
    assert list(LevelReader(folder).entries()) == content
    plyvel = pytest.importorskip("plyvel")
    store = plyvel.DB(str(folder), paranoid_checks=True)
    assert list(store.iterator(verify_checksums=True)) == content
    assert store.get(content[7][0]) == content[7][1]
    store.put(content[0][0], b"another")
    store.compact_range()
    store.close()
    assert list(LevelReader(folder).entries()) == [
        (content[0][0], b"another"),
        *content[1:],
    ]


def test_nothing_at_all_and_large_values(tmp_path):
    assert build(tmp_path / "a", []) == []
    assert list(LevelReader(tmp_path / "a").entries()) == []
    content = build(tmp_path / "b", [(b"k", bytes(300_000)), (b"j", b"")])
    assert list(LevelReader(tmp_path / "b").entries()) == content


def test_a_long_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(level_db_writer, "_PENDING_BYTES", 10)
    content = build(tmp_path / "db", [(b"%0200d" % i, b"v") for i in range(200)])
    assert (tmp_path / "db" / "MANIFEST-000001").stat().st_size > 65536
    assert list(LevelReader(tmp_path / "db").entries()) == content
