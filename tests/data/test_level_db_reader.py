"""The reader in plain Python beside LevelDB itself."""

from __future__ import annotations

import random
import shutil

import pytest

from poseidon_caffe.data import level_db_reader
from poseidon_caffe.data.level_db_reader import LevelCursor, LevelReader
from poseidon_caffe.errors import DataError

plyvel = pytest.importorskip("plyvel")


def fill(folder, seed, *, count=6000, **options):
    """A LevelDB of puts, overwrites and deletes; its content."""
    draw = random.Random(seed)
    store = plyvel.DB(str(folder), create_if_missing=True, **options)
    for i in range(count):
        key = b"%06d" % draw.randrange(count // 2)
        store.put(key, draw.randbytes(30) * draw.randrange(12))
        if i % 5 == 0:
            store.delete(b"%06d" % draw.randrange(count // 2))
    content = list(store)
    store.close()
    return content


@pytest.mark.parametrize("compression", ["snappy", None])
@pytest.mark.parametrize("buffer_bytes", [20_000, 100_000, 4_000_000])
def test_the_same_records(compression, buffer_bytes, tmp_path):
    folder = tmp_path / "db"
    content = fill(
        folder,
        buffer_bytes,
        write_buffer_size=buffer_bytes,
        compression=compression,
        block_size=1024,
        max_file_size=1 << 20,
    )
    files = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    reader = LevelReader(folder)
    assert list(reader.entries()) == content
    for start in (b"0", b"000999", b"0009990", b"002500", b"9"):
        assert list(reader.entries(start)) == [e for e in content if e[0] >= start]
    reader.close()
    assert files == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_compacted_and_opened_again(tmp_path):
    folder = tmp_path / "db"
    fill(folder, 1, count=3000)
    store = plyvel.DB(str(folder))
    store.compact_range()
    for i in range(0, 3000, 7):
        store.delete(b"%06d" % i)
        store.put(b"%06d" % (i + 1), b"")
    content = list(store)
    store.close()
    cursor = LevelCursor(LevelReader(folder))
    assert cursor.first()
    got = [(cursor.key(), cursor.value())]
    while cursor.next():
        got.append((cursor.key(), cursor.value()))
    assert got == content
    assert cursor.seek(content[40][0])
    assert cursor.value() == content[40][1]
    assert not cursor.seek(b"x")


def test_large_values_span_blocks_of_the_log(tmp_path):
    folder, draw = tmp_path / "db", random.Random(2)
    store = plyvel.DB(str(folder), create_if_missing=True)
    for i in range(20):
        store.put(b"%d" % i, draw.randbytes(40_000 + i))
    content = list(store)
    store.close()
    assert list(LevelReader(folder).entries()) == content


def test_a_log_that_a_crash_cut_off(tmp_path):
    folder = tmp_path / "db"
    store = plyvel.DB(str(folder), create_if_missing=True)
    for i in range(100):
        store.put(b"%03d" % i, b"v" * 50)
    store.close()
    (log,) = folder.glob("*.log")
    log.write_bytes(log.read_bytes()[:-60])
    keys = [key for key, _ in LevelReader(folder).entries()]
    assert keys == [b"%03d" % i for i in range(len(keys))]
    assert len(keys) in {98, 99}


def test_damage_is_an_error_of_our_own_or_harmless(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(level_db_reader, "_PAUSE_S", 0)
    source, draw = golden / "data" / "gray_leveldb", random.Random(4)
    refused = 0
    for trial in range(120):
        folder = shutil.copytree(source, tmp_path / str(trial))
        name = ("000005.ldb", "MANIFEST-000004", "CURRENT")[trial % 3]
        raw = bytearray((folder / name).read_bytes())
        if trial % 2:
            del raw[draw.randrange(len(raw)) :]
        else:
            for _ in range(draw.choice([1, 5, 50])):
                raw[draw.randrange(len(raw))] = draw.randrange(256)
        (folder / name).write_bytes(raw)
        try:
            list(LevelReader(folder).entries())
        except (DataError, OSError):
            refused += 1
    assert refused > 60


def test_other_orders_of_keys_are_refused(tmp_path):
    options = {"comparator": lambda a, b: (a > b) - (a < b), "comparator_name": b"own"}
    store = plyvel.DB(str(tmp_path / "db"), create_if_missing=True, **options)
    store.close()
    with pytest.raises(DataError, match="ordered by b'own'"):
        LevelReader(tmp_path / "db")
