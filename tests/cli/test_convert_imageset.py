from __future__ import annotations

import pytest

from poseidon_caffe.cli.main import run
from poseidon_caffe.data.db import open_db


@pytest.fixture
def words(golden, tmp_path):
    data = golden / "data"
    return [f"{data / 'images'}/", str(data / "list.txt"), str(tmp_path / "db")]


def test_as_caffes_tool(words, capsys, golden):
    flags = ["--resize_height=20", "-resize_width", "24", "--check_size"]
    assert run(["convert_imageset", *flags, *words]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "A total of 13 images.",
        "Processed 13 files.",
    ]
    assert " convert_imageset.cpp:" in lines[0]
    ours, caffes = open_db(words[2]), open_db(str(golden / "data" / "raw_lmdb"))
    assert list(ours.keys()) == list(caffes.keys())
    ours.close()
    caffes.close()


def test_an_unreadable_image_is_an_error_line(words, capsys, tmp_path):
    (tmp_path / "list").write_text("img_00.png 1\nnone.png 2\n")
    assert run(["convert_imageset", words[0], str(tmp_path / "list"), words[2]]) == 0
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("E")]
    assert len(errors) == 1
    assert "none.png" in errors[0]


def test_failure_is_one_line_and_exit_code_1(words, capsys, tmp_path):
    assert run(["convert_imageset", words[0], "/no/list", words[2]]) == 1
    assert "/no/list" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_words(capsys):
    assert run(["convert_imageset", "images/"]) == 1
    assert "LISTFILE is missing" in capsys.readouterr().err
