"""The original's host files: read, refused by line, and put into mpirun's words."""

from __future__ import annotations

import pytest

from poseidon_caffe.cli.hostfile import advice, read_hosts
from poseidon_caffe.errors import UsageError


def hosts(tmp_path, text: str) -> list[str]:
    path = tmp_path / "hosts"
    path.write_text(text)
    return read_hosts(str(path))


def wrong(tmp_path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        hosts(tmp_path, text)
    return str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    "text",
    [
        "0 10.0.0.1 9999\n1 10.0.0.2 9999\n",
        "# cluster\n0\t10.0.0.1\t9999\n\n1 10.0.0.2 10000  # slow\n",
        "10.0.0.1\n10.0.0.2 slots=2\n",
        "10.0.0.1 slots=1 max_slots=2\n10.0.0.2 max-slots=4",
    ],
)
def test_both_kinds(tmp_path, text):
    assert hosts(tmp_path, text) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0 a 9999\n1 b\n", ["/hosts:2:", "'1 b'", "slots=1"]),
        ("0 a 99999\n", ["/hosts:1:", "id ip port"]),
        ("0 a 0\n", ["/hosts:1:"]),
        ("x a 9999\n", ["/hosts:1:", "'x a 9999'"]),
        ("0 a 1 2\n", ["/hosts:1:"]),
        ("\n0 a 9\n2 b 9\n", ["/hosts:3:", "expected id 1", "'2 b 9'"]),
        ("a slots=x\n", ["/hosts:1:"]),
        ("# nothing\n", ["names no host"]),
    ],
)
def test_the_line_at_fault(tmp_path, text, parts):
    said = wrong(tmp_path, text)
    for part in parts:
        assert part in said


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"--hostfile=.*none: cannot be read"):
        read_hosts(str(tmp_path / "none"))


def test_how_mpirun_wants_it():
    assert "mpirun -n 2 --host a,b poseidon train" in advice(["a", "b"], 1)
    assert "not needed" in advice(["a", "b"], 2)
