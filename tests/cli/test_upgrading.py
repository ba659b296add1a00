"""The three upgrade commands as they are called."""

from __future__ import annotations

import pytest

from poseidon_caffe.cli.main import run
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.binary import read_binary
from poseidon_caffe.schema.text import read_prototxt


def texts(capsys):
    """(level, message) of each line logged."""
    lines = capsys.readouterr().err.splitlines()
    return [(line[0], line.partition("] ")[2]) for line in lines]


def test_net_text(golden, tmp_path, capsys):
    source = str(golden / "upgrade" / "v1_lenet_train_test.prototxt")
    target = str(tmp_path / "new.prototxt")
    assert run(["upgrade_net_proto_text", source, target]) == 0
    assert read_prototxt(target, messages.NetParameter) == read_prototxt(
        source + ".upgraded", messages.NetParameter
    )
    lines = texts(capsys)
    assert ("I", f"Wrote upgraded NetParameter text proto to {target}") == lines[-1]
    assert any("V1 format" in line for _, line in lines[:-1])


def test_net_binary_that_is_current(trained, tmp_path, capsys):
    source = str(trained[0].folder / "out_iter_100.caffemodel")
    target = str(tmp_path / "new.caffemodel")
    assert run(["upgrade_net_proto_binary", source, target]) == 0
    new = read_binary(target, messages.NetParameter)
    assert new == read_binary(source, messages.NetParameter)
    assert texts(capsys) == [
        ("E", f"File already in latest proto format: {source}"),
        ("I", f"Wrote upgraded NetParameter binary proto to {target}"),
    ]


def test_solver_text(tmp_path, capsys):
    source, target = tmp_path / "old", tmp_path / "new"
    source.write_text("solver_type: ADAM\n")
    assert run(["upgrade_solver_proto_text", str(source), str(target)]) == 0
    assert target.read_text() == 'type: "Adam"\n'
    lines = texts(capsys)
    assert ("I", f"Wrote upgraded SolverParameter text proto to {target}") == lines[-1]


@pytest.mark.parametrize(
    "command",
    ["upgrade_net_proto_text", "upgrade_net_proto_binary", "upgrade_solver_proto_text"],
)
def test_failures_are_one_line_and_exit_code_1(command, tmp_path, capsys):
    assert run([command, str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "no such" in capsys.readouterr().err
    assert run([command, str(tmp_path / "none")]) == 1
    assert "OUT is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
