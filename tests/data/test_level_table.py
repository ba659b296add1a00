from __future__ import annotations

import pytest

from poseidon_caffe.data.level_table import Table
from poseidon_caffe.errors import DataError


def test_a_table_of_caffes(golden):
    table = Table(golden / "data" / "gray_leveldb" / "000005.ldb")
    entries = list(table.entries())
    assert [entry.key for entry in entries] == sorted({e.key for e in entries})
    assert len(entries) == 13
    assert list(table.entries(entries[4].key)) == entries[4:]
    assert list(table.entries(entries[4].key + b"0")) == entries[5:]
    assert list(table.entries(b"z")) == []
    table.close()


@pytest.mark.parametrize("size", [0, 10, 47, 100, -1])
def test_a_table_that_is_cut_off(size, golden, tmp_path):
    path = tmp_path / "000005.ldb"
    path.write_bytes((golden / "data" / "gray_leveldb" / path.name).read_bytes()[:size])
    with pytest.raises(DataError, match=r"000005.ldb .*cut off"):
        Table(path)
