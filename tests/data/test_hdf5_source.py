from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from poseidon_caffe.data import hdf5_source
from poseidon_caffe.data.hdf5_source import Hdf5Source, read_file_list
from poseidon_caffe.errors import DataError

SIZES = (3, 0, 5, 1, 4)
TOTAL = sum(SIZES)


@pytest.fixture
def paths(tmp_path):
    """Files of several sizes, an empty one too; row k of all holds k."""
    made, start = [], 0
    for i, size in enumerate(SIZES):
        path = tmp_path / f"{i}.h5"
        with h5py.File(path, "w") as file:
            rows = np.arange(start, start + size)
            file["x"] = np.stack([rows, 100 + rows], 1).astype(float)
            file["n"] = rows
        made.append(str(path))
        start += size
    return made


@pytest.fixture
def build(paths):
    made = []

    def make(which=None, key=0, **settings):
        source = Hdf5Source(which or paths, ["x", "n"], **settings)
        source.key = key
        made.append(source)
        return source

    yield make
    for source in made:
        source.close()


def rows(source, records):
    x = np.zeros((len(records), 2), np.float32)
    n = np.zeros(len(records), np.float32)
    source.fill(records, [x, n])
    np.testing.assert_array_equal(x, np.stack([n, 100 + n], 1))
    return n.astype(int).tolist()


@pytest.mark.parametrize("ahead", [False, True])
def test_in_order_over_files_and_epochs(ahead, build):
    source = build(ahead=ahead)
    assert len(source) == TOTAL
    got = [rows(source, range(i, i + 4)) for i in range(0, 40, 4)]
    assert [n for part in got for n in part] == [i % TOTAL for i in range(40)]
    assert rows(source, range(2, 33, 3)) == [i % TOTAL for i in range(2, 33, 3)]
    assert rows(source, range(0)) == []


@pytest.mark.parametrize("ahead", [False, True])
def test_shuffled_by_file_and_row(ahead, build):
    source = build(shuffle=True, key=5, ahead=ahead)
    epochs = [rows(source, range(e * TOTAL, (e + 1) * TOTAL)) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL))
        # Rows of a file stay together.
        files = [sum(n >= end for end in np.cumsum(SIZES)) for n in epoch]
        assert len([i for i in range(1, TOTAL) if files[i] != files[i - 1]]) == 3
    assert epochs[0] != epochs[1] != epochs[2]
    again = build(shuffle=True, key=5, ahead=not ahead)
    assert rows(again, range(20, 31, 2)) == np.concatenate(epochs)[20:31:2].tolist()
    assert rows(build(shuffle=True, key=6), range(TOTAL)) != epochs[0]


def test_one_file_is_mixed_anew_in_each_epoch_and_read_once(build, paths, monkeypatch):
    reads = []
    real = hdf5_source.read_rows

    def counting(file, *more):
        reads.append(file.path)
        return real(file, *more)

    monkeypatch.setattr(hdf5_source, "read_rows", counting)
    source = build([paths[2]], shuffle=True)
    first, second = rows(source, range(5)), rows(source, range(5, 10))
    assert sorted(first) == sorted(second) == [3, 4, 5, 6, 7]
    assert first != second
    assert len(reads) == 1
    source = build([paths[0], paths[2]])
    rows(source, range(80))
    assert sorted(reads[1:]) == [paths[0], paths[2]]


def test_two_files_in_memory_at_most(build):
    source = build()
    for start in range(0, 3 * TOTAL, 2):
        rows(source, range(start, start + 2))
        assert len(source._loaded) <= 2


def test_a_file_that_disappears_is_an_error_until_it_is_back(build, paths):
    source = build(ahead=False)
    saved = Path(paths[2]).read_bytes()
    h5py.File(paths[2], "w").close()
    for _ in range(2):
        with pytest.raises(DataError, match=r"2\.h5: no dataset"):
            rows(source, range(2, 6))
    Path(paths[2]).write_bytes(saved)
    assert rows(source, range(2, 6)) == [2, 3, 4, 5]


def test_rows_must_be_alike_in_all_files(paths, tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["n"] = np.zeros((2, 3)), np.zeros(2)
    with pytest.raises(DataError, match=r'other.h5: rows of .*"x" .*\(3,\).*\(2,\)'):
        Hdf5Source([*paths, str(path)], ["x", "n"])
    with pytest.raises(DataError, match="none of the HDF5 files has a row"):
        Hdf5Source([paths[1]], ["x", "n"])


def test_closed(build):
    source = build()
    source.close()
    source.close()
    with pytest.raises(DataError, match="closed"):
        rows(source, range(2))


def test_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.h5\n\n  b/c.h5\nd.h5")
    assert read_file_list(str(path)) == ["a.h5", "b/c.h5", "d.h5"]
    path.write_text(" \n")
    with pytest.raises(DataError, match="names no HDF5 file"):
        read_file_list(str(path))
    with pytest.raises(DataError, match="cannot be read"):
        read_file_list(str(tmp_path / "none"))
