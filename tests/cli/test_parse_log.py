"""``poseidon parse_log`` on our own logs, beside what Caffe's script finds in them."""

from __future__ import annotations

import csv
import re

import pytest

from poseidon_caffe.cli.main import run

# What the original script looks for in a line.
ITERATION = re.compile(r"Iteration (\d+)")
OUTPUT = r" net output #(\d+): (\S+) = ([\.\deE+-]+)"
RATE = re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)")


@pytest.fixture(scope="session")
def own_log(trained):
    """What a training of ours wrote on stderr."""
    return trained[1].stderr


def read(path):
    """A table as rows by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(text, kind):
    """(iteration, name, value) as the original's regular expressions find them."""
    found, iteration = [], None
    for line in text[text.index("] Solving") :].splitlines():
        named = ITERATION.search(line)
        iteration = float(named[1]) if named else iteration
        output = re.search(kind + OUTPUT, line)
        if output:
            found.append((iteration, output[2], float(output[3])))
    return found


@pytest.mark.parametrize("kind", ["Train", "Test"])
def test_our_own_log(own_log, tmp_path, capsys, kind):
    path = tmp_path / "own.log"
    path.write_text(own_log)
    assert run(["parse_log", str(path), str(tmp_path), "--verbose"]) == 0
    assert f"Wrote {path}.{kind.lower()}" in capsys.readouterr().out
    rows = read(tmp_path / f"own.log.{kind.lower()}")
    ours = [
        (float(row["NumIters"]), name, float(value))
        for row in rows
        for name, value in row.items()
        if name not in {"NumIters", "Seconds", "LearningRate"}
    ]
    assert ours == expected(own_log, kind)
    rates = {float(found[1]) for found in RATE.finditer(own_log)}
    assert {float(row["LearningRate"]) for row in rows} <= rates
    seconds = [float(row["Seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0


def test_delimiter_and_silence(own_log, tmp_path, capsys):
    path = tmp_path / "own.log"
    path.write_text(own_log)
    assert run(["parse_log", str(path), str(tmp_path), "--delimiter=\\t"]) == 0
    assert (tmp_path / "own.log.train").read_text().startswith("NumIters\tSeconds\t")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such training log"), ("x", "no start time"), ("", "no start time")],
)
def test_wrong_logs(tmp_path, capsys, text, said):
    path = tmp_path / "a.log"
    if text is not None:
        path.write_text(text)
    assert run(["parse_log", str(path), str(tmp_path)]) == 1
    assert said in capsys.readouterr().err
