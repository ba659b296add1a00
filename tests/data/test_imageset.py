from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import open_db
from poseidon_caffe.data.imageset import ImageSetSettings, convert_imageset, read_list
from poseidon_caffe.errors import DataError, ParseError


class Lines:
    def __init__(self):
        self.infos, self.warnings, self.errors = [], [], []
        self.info = self.infos.append
        self.warning = self.warnings.append
        self.error = self.errors.append


@pytest.fixture
def settings(golden, tmp_path):
    return ImageSetSettings(
        root_folder=f"{golden / 'data' / 'images'}/",
        list_file=str(golden / "data" / "list.txt"),
        db_name=str(tmp_path / "db"),
    )


def convert(settings, notes=None, **changes):
    settings = dataclasses.replace(settings, **changes)
    count = convert_imageset(settings, notes)
    keys, datums = contents(settings.db_name, settings.backend)
    assert len(keys) == count
    return keys, datums


def contents(path, backend="lmdb"):
    database = open_db(str(path), backend)
    keys = list(database.keys())
    datums = [parse_datum(database.record(i)) for i in range(len(database))]
    database.close()
    return keys, datums


def fields(datum):
    return [field.name for field, _ in datum.ListFields()]


def test_raw_records_are_those_of_caffe(settings, golden):
    lines = Lines()
    keys, datums = convert(settings, lines, resize_width=24, resize_height=20)
    expected_keys, expected = contents(golden / "data" / "raw_lmdb")
    assert keys == expected_keys
    for ours, caffes in zip(datums, expected, strict=True):
        assert fields(ours) == fields(caffes)
        assert ours.label == caffes.label
        difference = decode(ours).astype(int) - decode(caffes)
        assert not difference.any()
    assert lines.infos == ["A total of 13 images.", "Processed 13 files."]
    assert lines.warnings == lines.errors == []


def test_png_records_decode_to_those_of_caffe(settings, golden):
    size = {"resize_width": 24, "resize_height": 20}
    keys, datums = convert(settings, **size, encoded=True, encode_type="png")
    expected_keys, expected = contents(golden / "data" / "png_lmdb")
    assert keys == expected_keys
    for ours, caffes in zip(datums, expected, strict=True):
        assert fields(ours) == fields(caffes)
        assert ours.encoded
        assert ours.label == caffes.label
        difference = decode(ours).astype(int) - decode(caffes)
        assert not difference.any()


def test_gray_records_are_those_of_caffe(settings, golden):
    _, datums = convert(settings, resize_width=24, resize_height=20, gray=True)
    with np.load(golden / "data" / "batches.npz") as stored:
        expected = [stored[f"leveldb_gray/{i}/data"] for i in range(3)]
    images = np.stack([decode(datum) for datum in datums])
    assert np.abs(images - np.concatenate(expected)[:13] * 256).max() <= 1.001


@pytest.mark.skipif(
    importlib.util.find_spec("plyvel") is None, reason="plyvel not installed"
)
def test_leveldb(settings):
    keys, datums = convert(settings, backend="leveldb")
    assert keys[3] == b"00000003_img_03.jpg"
    assert (datums[0].channels, datums[0].height, datums[0].width) == (3, 24, 30)


def test_encoded_files_are_stored_as_they_are(settings, golden):
    _, datums = convert(settings, encoded=True)
    for name, datum in zip(("img_00.png", "img_01.jpg"), datums, strict=False):
        assert datum.data == (golden / "data" / "images" / name).read_bytes()
        assert fields(datum) == ["data", "label", "encoded"]


def test_encode_type_changes_only_files_of_another_kind(settings, golden):
    lines = Lines()
    _, datums = convert(settings, lines, encode_type="jpeg")
    assert "encode_type specified, assuming encoded=true." in lines.infos
    jpeg = (golden / "data" / "images" / "img_01.jpg").read_bytes()
    assert datums[1].data == jpeg
    assert datums[0].data[:3] == jpeg[:3] == b"\xff\xd8\xff"


def test_shuffling_keeps_pairs(settings):
    lines = Lines()
    keys, datums = convert(settings, lines, shuffle=True, seed=4)
    assert lines.infos[0] == "Shuffling data"
    names = [key.decode().partition("_")[2] for key in keys]
    expected = {image.path: image.label for image in read_list(settings.list_file)}
    assert names != sorted(names)
    assert {n: d.label for n, d in zip(names, datums, strict=True)} == expected


def test_unreadable_images_are_left_out_and_counted(settings, tmp_path):
    listing = tmp_path / "list"
    listing.write_text("img_00.png 4\nmissing.png 1\nimg_02.png -2\n")
    lines = Lines()
    keys, datums = convert(settings, lines, list_file=str(listing))
    assert keys == [b"00000000_img_00.png", b"00000002_img_02.png"]
    assert [datum.label for datum in datums] == [4, -2]
    assert len(lines.errors) == 1
    assert lines.errors[0].startswith("Could not open or find file")
    assert "missing.png" in lines.errors[0]


def test_blanks_in_names(tmp_path):
    (tmp_path / "list").write_text("a b/c d.png 12\n\nx.png 3 \n")
    images = read_list(str(tmp_path / "list"))
    found = [(i.path, i.label, i.line) for i in images]
    assert found == [("a b/c d.png", 12, 1), ("x.png", 3, 3)]


def test_encoding_that_cannot_be_guessed(settings, golden, tmp_path):
    image = (golden / "data" / "images" / "img_00.png").read_bytes()
    (tmp_path / "plain").write_bytes(image)
    (tmp_path / "list").write_text("plain 1\n")
    lines = Lines()
    where = {"root_folder": f"{tmp_path}/", "list_file": str(tmp_path / "list")}
    _, datums = convert(settings, lines, **where, encoded=True)
    assert lines.warnings == ["Failed to guess the encoding of 'plain'"]
    assert not datums[0].encoded


def test_many_files_are_reported_by_thousands(settings, tmp_path):
    (tmp_path / "list").write_text("img_00.png 1\n" * 1001)
    lines = Lines()
    convert(settings, lines, list_file=str(tmp_path / "list"))
    assert lines.infos[1:] == ["Processed 1000 files.", "Processed 1001 files."]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"check_size": True}, DataError, "the first image has 2160"),
        ({"root_folder": "/nowhere/"}, DataError, "none of its 13 images"),
        ({"list_file": "/nowhere"}, ParseError, "cannot be read"),
        ({"backend": "sqlite"}, DataError, "unknown database backend"),
    ],
)
def test_failures_leave_nothing(settings, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        convert_imageset(dataclasses.replace(settings, **changes))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_is_refused(settings):
    convert(settings)
    with pytest.raises(DataError, match="already exists"):
        convert_imageset(settings)


def test_check_size_passes_equal_sizes(settings):
    convert(settings, check_size=True, resize_width=9, resize_height=9)


@pytest.mark.parametrize(
    ("text", "line"), [("a.png 1\nb.png\n", 2), ("a.png one\n", 1), ("5\n", 1)]
)
def test_lines_without_a_label(tmp_path, text, line):
    (tmp_path / "list").write_text(text)
    with pytest.raises(ParseError, match=f"list:{line}: expected") as caught:
        read_list(str(tmp_path / "list"))
    assert caught.value.line == line


def test_an_empty_list(tmp_path):
    (tmp_path / "list").write_text("\n")
    with pytest.raises(ParseError, match="is empty"):
        read_list(str(tmp_path / "list"))
