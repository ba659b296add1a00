from __future__ import annotations

import h5py
import numpy as np
import pytest

from poseidon_caffe.data.hdf5_writer import Hdf5Writer
from poseidon_caffe.errors import DataError


def test_rows_are_appended_to_a_file_that_is_always_whole(tmp_path):
    target = tmp_path / "out.h5"
    target.write_bytes(b"an older file")
    writer = Hdf5Writer(str(target))
    blocks = [np.full((n, 2), n, np.float32) for n in (2, 0, 3)]
    assert target.read_bytes() == b"an older file"
    for block in blocks:
        writer.append({"a": block, "b": block[:, 0]})
        assert h5py.is_hdf5(target)
    writer.close()
    writer.close()
    with h5py.File(target) as file:
        np.testing.assert_array_equal(file["a"][()], np.concatenate(blocks))
        assert file["a"].dtype == np.float32
        assert file["b"].shape == (5,)
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5"]
    with pytest.raises(DataError, match="closed"):
        writer.append({"a": blocks[0]})


def test_without_rows_nothing_appears(tmp_path):
    Hdf5Writer(str(tmp_path / "out.h5")).close()
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path):
    writer = Hdf5Writer(str(tmp_path / "out.h5"))
    writer.append({"a": np.zeros((2, 3))})
    with pytest.raises(DataError, match=r"shape \(4,\).*before it have \(3,\)"):
        writer.append({"a": np.zeros((2, 4))})
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_taken_away_begins_anew(tmp_path):
    target = tmp_path / "out.h5"
    writer = Hdf5Writer(str(target))
    writer.append({"a": np.zeros((2, 3))})
    target.rename(tmp_path / "kept.h5")
    writer.append({"a": np.ones((1, 3))})
    writer.close()
    for name, rows in (("kept.h5", 2), ("out.h5", 1)):
        with h5py.File(tmp_path / name) as file:
            assert file["a"].shape == (rows, 3)


def test_places_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match="does not exist; make it first"):
        Hdf5Writer(str(tmp_path / "no" / "out.h5"))
    with pytest.raises(DataError, match="this is a folder"):
        Hdf5Writer(str(tmp_path))
