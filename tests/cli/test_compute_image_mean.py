from __future__ import annotations

from poseidon_caffe.cli.main import run


def test_as_caffes_tool(golden, tmp_path, capsys):
    source, target = str(golden / "data" / "raw_lmdb"), tmp_path / "mean.binaryproto"
    assert run(["compute_image_mean", source, str(target)]) == 0
    assert target.read_bytes() == (golden / "data" / "mean.binaryproto").read_bytes()
    texts = [x.partition("] ")[2] for x in capsys.readouterr().err.splitlines()]
    assert texts[1] == "Processed 13 files."
    assert texts[3] == "Number of channels: 3"
    assert texts[4].startswith("mean_value channel [0]: 125.3")


def test_without_a_file(golden, capsys):
    assert run(["compute_image_mean", str(golden / "data" / "png_lmdb")]) == 0
    assert "Write to" not in capsys.readouterr().err


def test_failure_is_one_line_and_exit_code_1(tmp_path, capsys):
    target = tmp_path / "mean"
    assert run(["compute_image_mean", str(tmp_path / "none"), str(target)]) == 1
    assert "no such LMDB" in capsys.readouterr().err
    assert not target.exists()
