"""What every backend does alike."""

from __future__ import annotations

import sys
import threading

import pytest

from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.errors import DataError

BACKENDS = ["lmdb", "leveldb", "leveldb without its binding"]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    name, *without = request.param.split(" ", 1)
    if without:
        monkeypatch.setitem(sys.modules, "plyvel", None)
    return name


@pytest.fixture
def made(backend, tmp_path):
    """A database of 3000 records, written out of order."""
    target = tmp_path / "db"
    with create_db(str(target), backend) as writer:
        for i in reversed(range(3000)):
            writer.put(b"%08d_x" % i, b"value %d" % i)
    return target


def test_records_come_in_key_order(made, backend):
    database = open_db(str(made), backend.upper())
    assert len(database) == 3000
    assert [database.record(i) for i in range(3000)] == [
        b"value %d" % i for i in range(3000)
    ]
    assert list(database.keys()) == [b"%08d_x" % i for i in range(3000)]
    database.close()


def test_records_in_any_order(made, backend):
    database = open_db(str(made), backend)
    for i in (2999, 0, 1500, 1499, 1024, 2047, 2048, 3, 3):
        assert database.record(i) == b"value %d" % i
        assert database.key(i) == b"%08d_x" % i
    database.close()


def test_several_readers_of_one_path(made, backend):
    first, second = open_db(str(made), backend), open_db(f"{made}/", backend)
    assert first.record(5) == second.record(5)
    first.close()
    assert second.record(6) == b"value 6"
    second.close()
    again = open_db(str(made), backend)
    assert again.record(7) == b"value 7"
    again.close()


def test_threads_share_a_reader(made, backend):
    database = open_db(str(made), backend)
    wrong = []

    def read(start):
        for i in range(start, 3000, 5):
            if database.record(i) != b"value %d" % i:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert wrong == []


def test_an_existing_target_is_refused_and_kept(made, backend):
    with pytest.raises(DataError, match="already exists"):
        create_db(str(made), backend)
    database = open_db(str(made), backend)
    assert len(database) == 3000
    database.close()


def test_a_failed_writing_leaves_nothing(backend, tmp_path):
    def write_and_fail():
        with create_db(str(tmp_path / "db"), backend) as writer:
            for i in range(2500):
                writer.put(b"%d" % i, b"x")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_at_the_target_before_the_end(backend, tmp_path):
    with create_db(str(tmp_path / "db"), backend) as writer:
        writer.put(b"a", b"b")
        assert not (tmp_path / "db").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_target_in_no_folder(backend, tmp_path):
    with pytest.raises(DataError, match="cannot write in the folder"):
        create_db(str(tmp_path / "none" / "db"), backend)


def test_an_empty_database(backend, tmp_path):
    with create_db(str(tmp_path / "db"), backend):
        pass
    for _ in range(2):  # the first failure leaves nothing open
        with pytest.raises(DataError, match="is empty"):
            open_db(str(tmp_path / "db"), backend)


def test_a_missing_database(backend, tmp_path):
    with pytest.raises(DataError, match="no such L"):
        open_db(str(tmp_path / "db"), backend)


def test_a_folder_of_something_else(backend, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="has no"):
        open_db(str(tmp_path), backend)


def test_unknown_backend():
    with pytest.raises(DataError, match='"rocksdb", not lmdb or leveldb'):
        open_db("x", "rocksdb")
