from __future__ import annotations

import hashlib
import io

import pytest

from poseidon_caffe.cli.download_model_binary import _display
from poseidon_caffe.cli.main import run
from poseidon_caffe.report.glog import Glog


@pytest.fixture
def folder(tmp_path):
    """A model's folder and, beside it, the file."""
    where = tmp_path / "zoo"
    where.mkdir()
    (tmp_path / "copy").write_bytes(b"weights")
    sha1 = hashlib.sha1(b"weights").hexdigest()
    (where / "readme.md").write_text(
        "---\ncaffemodel: m.caffemodel\ncaffemodel_url: http://127.0.0.1:1/m\n"
        f"sha1: {sha1}\n---\n"
    )
    return where


def test_from_file_then_kept(folder, capsys):
    words = ["download_model_binary", str(folder), "--from-file", f"{folder}/../copy"]
    assert run(words) == 0
    assert capsys.readouterr().out == f"Wrote {folder / 'm.caffemodel'}\n"
    assert (folder / "m.caffemodel").read_bytes() == b"weights"
    assert run(words[:2]) == 0
    assert capsys.readouterr().out == "Model already exists.\n"


def test_failure_is_one_line_and_exit_code_1(folder, capsys):
    assert run(["download_model_binary", str(folder)]) == 1
    assert "cannot be downloaded" in capsys.readouterr().err
    assert run(["download_model_binary", f"{folder}/.."]) == 1
    assert "no such readme" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Whether it is one."""
        return True


def test_progress_is_drawn_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    show = _display(Glog(stream))
    show(1 << 20, 4 << 20)
    show(4 << 20, 4 << 20)
    assert "[########################] 4.0 MiB at " in stream.getvalue()
    assert stream.getvalue().endswith("0:00 left\n")
    assert _display(Glog(io.StringIO())) is None
