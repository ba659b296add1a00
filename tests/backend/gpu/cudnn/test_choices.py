from __future__ import annotations

import json

import pytest

from poseidon_caffe.backend.gpu.cudnn.choices import Choice, Choices

FIRST = Choice(3, 1, 4096, 0.25)
SECOND = Choice(62, milliseconds=1.5, knobs=((2, 7), (13, 0)))
DEVICE = ("NVIDIA H100 80GB HBM3", (9, 28, 1))


def test_choices_survive_a_new_process(tmp_path):
    choices = Choices.for_device(tmp_path / "new" / "folder", *DEVICE)
    choices.put("a", FIRST)
    choices.put("b", SECOND)
    again = Choices.for_device(tmp_path / "new" / "folder", *DEVICE)
    assert again.get("a") == FIRST
    assert again.get("b") == SECOND
    assert again.get("c") is None
    files = list((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["NVIDIA-H100-80GB-HBM3-cudnn-9.28.1.json"]


def test_another_gpu_or_version_knows_nothing(tmp_path):
    Choices.for_device(tmp_path, *DEVICE).put("a", FIRST)
    assert Choices.for_device(tmp_path, "NVIDIA A100", (9, 28, 1)).get("a") is None
    assert Choices.for_device(tmp_path, DEVICE[0], (9, 27, 0)).get("a") is None


def test_two_processes_keep_what_both_found(tmp_path):
    one, other = (Choices.for_device(tmp_path, *DEVICE) for _ in range(2))
    one.put("a", FIRST)
    other.put("b", SECOND)
    both = Choices.for_device(tmp_path, *DEVICE)
    assert (both.get("a"), both.get("b")) == (FIRST, SECOND)


SOUND = {"algorithm": 1, "math": 0, "workspace": 0, "milliseconds": 1, "knobs": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b"[" * 100_000,
        b'{"format": 99, "choices": {}}',
        b'{"format": 1}',
        b'{"format": 1, "choices": [1]}',
    ],
)
def test_a_damaged_file_counts_as_empty_and_is_replaced(tmp_path, content):
    path = tmp_path / "choices.json"
    path.write_bytes(content)
    choices = Choices(path)
    assert choices.get("a") is None
    choices.put("a", FIRST)
    assert Choices(path).get("a") == FIRST


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "1"},
        {"algorithm": -1},
        {"algorithm": True},
        {"math": None},
        {"workspace": 1.5},
        {"milliseconds": "fast"},
        {"knobs": [[1]]},
        {"knobs": [[1, "2"]]},
        {"knobs": 7},
        {"more": 1},
    ],
)
def test_damaged_records_are_left_out(tmp_path, change):
    path = tmp_path / "choices.json"
    records = {"bad": {**SOUND, **change}, "good": SOUND, "none": None}
    path.write_text(json.dumps({"format": 1, "choices": records}))
    choices = Choices(path)
    assert choices.get("bad") is None
    assert choices.get("none") is None
    assert choices.get("good") == Choice(1, milliseconds=1.0)


def test_a_folder_that_cannot_be_written_keeps_choices_in_memory(tmp_path):
    (tmp_path / "file").write_text("")
    choices = Choices.for_device(tmp_path / "file", *DEVICE)
    choices.put("a", FIRST)
    assert choices.get("a") == FIRST
    assert Choices(None).get("a") is None
