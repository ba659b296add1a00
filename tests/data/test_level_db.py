from __future__ import annotations

import importlib.util
import shutil
import sys

import pytest

from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.errors import DataError

needs_plyvel = pytest.mark.skipif(
    importlib.util.find_spec("plyvel") is None, reason="plyvel not installed"
)


@pytest.fixture
def copied(golden, tmp_path):
    return shutil.copytree(golden / "data" / "gray_leveldb", tmp_path / "gray_leveldb")


@needs_plyvel
def test_reads_what_caffe_wrote(copied):
    database = open_db(str(copied), "LEVELDB")
    assert len(database) == 13
    assert database.key(12) == b"00000012_img_12.png"
    assert decode(parse_datum(database.record(3))).shape == (1, 20, 24)
    database.close()


@needs_plyvel
def test_damaged(copied):
    (copied / "MANIFEST-000004").write_bytes(b"nonsense")
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be opened"):
            open_db(str(copied), "LEVELDB")


@needs_plyvel
def test_a_damaged_table(copied):
    table = copied / "000005.ldb"
    table.write_bytes(b"x" * table.stat().st_size)
    for _ in range(2):
        with pytest.raises(DataError, match=r"gray_leveldb: .*(damaged|empty)"):
            open_db(str(copied), "LEVELDB")


def test_an_lmdb_is_told_from_a_leveldb(golden):
    with pytest.raises(DataError, match="write `backend: LMDB`"):
        open_db(str(golden / "data" / "raw_lmdb"), "LEVELDB")


def test_without_the_binding(copied, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(DataError, match="pip install"):
        open_db(str(copied), "LEVELDB")
    with pytest.raises(DataError, match="pip install"):
        create_db(str(tmp_path / "new"), "leveldb")
