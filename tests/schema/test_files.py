from __future__ import annotations

import os

import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema.files import is_binary, load, sniff


def test_load(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert load(tmp_path / "a", "prototxt") == b"abc"
    assert load(str(tmp_path / "a"), "prototxt", limit_bytes=3) == b"abc"


def test_too_large_is_refused_before_reading(tmp_path):
    path = tmp_path / "big.caffemodel"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    with pytest.raises(ParseError, match=r"3221225472 bytes.*HDF5"):
        load(path, "NetParameter", limit_bytes=2**31 - 1)


def test_missing_file_names_near_ones(tmp_path):
    (tmp_path / "lenet_solver.prototxt").touch()
    with pytest.raises(ParseError, match=r"did you mean lenet_solver\.prototxt"):
        load(tmp_path / "lenet_sovler.prototxt", "prototxt")


def test_missing_file_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParseError, match=f"no such prototxt .looked from {tmp_path}"):
        load("nothing.prototxt", "prototxt")


def test_missing_folder(tmp_path):
    with pytest.raises(ParseError, match=r"the folder .*nowhere does not exist"):
        load(tmp_path / "nowhere" / "a.prototxt", "prototxt")


def test_directory(tmp_path):
    with pytest.raises(ParseError, match="this is a directory"):
        load(tmp_path, "prototxt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "a"
    path.touch(mode=0)
    with pytest.raises(ParseError, match="Permission denied"):
        load(path, "prototxt")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n....", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<html>404</html>", "a web page"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b'name: "LeNet"\n', "a text file"),
        (b"\x00\x01\x02", None),
        (b"", None),
    ],
)
def test_sniff(data, kind):
    found = sniff(data)
    assert found is None if kind is None else found.startswith(kind)


def test_is_binary():
    assert not is_binary(b"# \xe4\xf6\xfc in latin-1\r\n\tname: 'a'\f")
    assert is_binary(b"\x0a\x05LeNet\xa2\x06\x10")
