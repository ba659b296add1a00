from __future__ import annotations

import shutil

import pytest

from poseidon_caffe.cli.main import run

PNG = b"\x89PNG"


@pytest.fixture
def logs(golden, tmp_path):
    """Two logs in a folder of their own, one of which a subfolder has again."""
    source = golden / "train" / "lenet_reference.log"
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "a.log", tmp_path / "b.log", tmp_path / "sub" / "a.log"]
    for path in paths:
        shutil.copy(source, path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("flags", [["-o"], ["--out"], ["-x", "seconds", "--o"]])
def test_several_logs(logs, tmp_path, flags):
    out = tmp_path / "all.png"
    assert run(["plot_log", *flags, str(out), *logs[:2]]) == 0
    assert out.read_bytes().startswith(PNG)


def test_logs_called_alike_keep_their_folders(logs, tmp_path):
    out = tmp_path / "all.svg"
    assert run(["plot_log", "-o", str(out), *logs]) == 0
    text = out.read_text()
    assert f"{logs[0]}: train loss" in text
    assert f"{logs[2]}: train loss" in text
    assert "<!-- b: train loss" in text


def test_caffes_words(logs, tmp_path):
    out = tmp_path / "loss.png"
    assert run(["plot_log", "6", str(out), *logs[:2]]) == 0
    assert out.read_bytes().startswith(PNG)
    other = tmp_path / "rate.svg"
    assert run(["plot_log", "4", "-o", str(other), logs[0]]) == 0
    assert "Train learning rate vs. Iters" in other.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plot_log"], "LOG... is missing"),
        (["plot_log", "x.log"], "-o is missing"),
        (["plot_log", "8", "a.png", "x.log"], "0: Test accuracy vs. Iters"),
        (["plot_log", "3", "-o", "a.png"], "no log is named"),
        (["plot_log", "3", "a.png", "b.log"], "no such training log"),
        (["plot_log", "-o", "a.png", "none.log"], "no such training log"),
        (["plot_log", "-x", "hours", "-o", "a.png", "x"], "one of iters, seconds"),
    ],
)
def test_wrong_words(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
