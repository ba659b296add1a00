from __future__ import annotations

import pytest

from poseidon_caffe.cli.main import run

V1 = """
name: "old" input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 3
  blobs_lr: 4 convolution_param { num_output: 2 kernel_size: 3 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "conv" bottom: "data"
  include { phase: TRAIN } }
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "old.prototxt"
    path.write_text(V1)
    return str(path)


def test_an_old_net_is_upgraded_and_drawn(model, tmp_path, capsys):
    target = tmp_path / "net.dot"
    flags = ["--rankdir", "TB", "--phase=TEST", "--display_lrm"]
    assert run(["draw_net", *flags, model, str(target)]) == 0
    text = target.read_text()
    assert text.startswith("digraph old {\nrankdir=TB;")
    label = "conv (Convolution) kernel size: 3 stride: 1 pad: 0 lr mult: 3.0, 4.0"
    assert f'"{label}"' in text
    assert "SoftmaxWithLoss" not in text
    log = capsys.readouterr().err
    assert "upgraded from the V1 format" in log
    assert f"Drawing net to {target}" in log


def test_all_layers_from_left_to_right(model, tmp_path):
    target = tmp_path / "net.dot"
    assert run(["draw_net", model, str(target)]) == 0
    assert "rankdir=LR" in target.read_text()
    assert r"loss\n(SoftmaxWithLoss)" in target.read_text()


def test_errors_are_one_line(model, tmp_path, capsys):
    for words in (
        ["none.prototxt", "net.dot"],
        [model, str(tmp_path / "none" / "net.dot")],
        [model, "net"],
        [model, "net.dot", "--rankdir=UP"],
        [model, "net.dot", "--phase=ANY"],
        [model],
    ):
        assert run(["draw_net", *words]) == 1
        err = capsys.readouterr().err
        assert "error" in err
        assert "Traceback" not in err
