from __future__ import annotations

import random
import sys

import h5py
import numpy as np
import pytest

from poseidon_caffe.data.hdf5_file import look_at, read_rows
from poseidon_caffe.errors import DataError


@pytest.fixture
def write(tmp_path):
    def make(**datasets):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            for name, values in datasets.items():
                file[name] = values
        return str(path)

    return make


@pytest.mark.parametrize(
    "kind", ["<f4", "<f8", ">f4", "<f2", "i1", "u1", "<i4", ">i8", "u8"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_any_kind_are_converted(kind, dtype, write):
    values = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = write(x=values, y=np.arange(2))
    file = look_at(path, ["x", "y"])
    assert (file.rows, file.shapes) == (2, ((3, 4), ()))
    x, y = read_rows(file, ["x", "y"], dtype)
    assert x.dtype == y.dtype == dtype
    np.testing.assert_array_equal(x, values.astype(dtype))
    np.testing.assert_array_equal(y, [0, 1])


def test_doubles_beyond_a_float_become_infinite(write):
    path = write(x=np.array([1e300, -1e300, 0.1]))
    (x,) = read_rows(look_at(path, ["x"]), ["x"], np.float32)
    np.testing.assert_array_equal(x, np.float32([np.inf, -np.inf, 0.1]))


def test_datasets_in_groups_and_without_rows(write):
    path = write(**{"g/x": np.zeros((0, 3)), "y": np.zeros((0,))})
    file = look_at(path, ["g/x", "y"])
    assert [a.shape for a in read_rows(file, ["g/x", "y"], np.float32)] == [
        (0, 3),
        (0,),
    ]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"y": np.zeros(3)}, 'no dataset "x".*the file has: "y"'),
        ({"x": np.zeros(3), "y": np.zeros(4)}, '"y" has 4 rows, "x" has 3'),
        ({"x": np.float32(1), "y": np.zeros(4)}, '"x" has no axis'),
        ({"x": np.array([True, False]), "y": np.zeros(2)}, "neither floats nor"),
        ({"x": np.array([b"ab", b"c"]), "y": np.zeros(2)}, "neither floats nor"),
        ({"x/z": np.zeros(3), "y": np.zeros(3)}, 'no dataset "x"'),
    ],
)
def test_what_no_data_is(datasets, message, write):
    with pytest.raises(DataError, match=message):
        look_at(write(**datasets), ["x", "y"])


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone.h5: no such HDF5 file.*folder"):
        look_at(str(tmp_path / "gone.h5"), ["x"])


def test_a_shape_that_nothing_fills(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (10**6, 100), np.float32)
        file.create_dataset("y", (10**9, 100), np.float32, chunks=(100, 100))
    with pytest.raises(DataError, match="stores only 0 bytes"):
        look_at(str(path), ["x"])
    with pytest.raises(DataError, match="cut it into several"):
        look_at(str(path), ["y"])


def test_a_file_that_changes_while_it_is_read(write):
    file = look_at(write(x=np.zeros((3, 2))), ["x"])
    write(x=np.zeros((4, 2)))
    with pytest.raises(DataError, match=r"had the shape \(3, 2\).*has \(4, 2\) now"):
        read_rows(file, ["x"], np.float32)


def test_damaged_bytes_are_errors_of_our_own(golden, tmp_path):
    whole = (golden / "data" / "part0.h5").read_bytes()
    names, draw = ["data", "label", "aux"], random.Random(3)
    broken = tmp_path / "broken.h5"
    refused = 0
    for trial in range(150):
        raw = bytearray(whole)
        if trial % 3 == 0:
            del raw[draw.randrange(len(raw)) :]
        else:
            for _ in range(draw.choice([1, 4, 30])):
                raw[draw.randrange(len(raw))] = draw.randrange(256)
        broken.write_bytes(raw)
        try:
            read_rows(look_at(str(broken), names), names, np.float32)
        except DataError as error:
            refused += "broken.h5" in str(error)
    assert refused > 50


def test_without_h5py(golden, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install poseidon-caffe\[hdf5\]"):
        look_at(str(golden / "data" / "part0.h5"), ["data"])
