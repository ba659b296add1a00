"""``poseidon time``: Caffe's lines, and figures that fit together."""

from __future__ import annotations

import re

import pytest

MS = r"([0-9.e+-]+) ms\.$"


@pytest.fixture(scope="module")
def lines(trained):
    done = trained[0].run("time", "--model", "net.prototxt", "--iterations", "4")
    assert done.returncode == 0, done.stderr
    return [line.split("] ", 1)[-1] for line in done.stderr.splitlines()]


def figure(lines: list[str], start: str) -> float:
    [text] = [line for line in lines if line.startswith(start)]
    return float(re.search(MS, text)[1])


def test_the_order_of_caffes_lines(lines):
    wanted = [
        "Performing Forward",
        "Initial loss: ",
        "Performing Backward",
        "*** Benchmark begins ***",
        "Testing for 4 iterations.",
        "Iteration: 1 forward-backward time: ",
        "Iteration: 4 forward-backward time: ",
        "Average time per layer: ",
        "    digits\tforward: ",
        "    digits\tbackward: ",
        "       ip1\tforward: ",
        "     relu1\tbackward: ",
        "      loss\tforward: ",
        "Average Forward pass: ",
        "Average Backward pass: ",
        "Average Forward-Backward: ",
        "Total Time: ",
        "*** Benchmark ends ***",
    ]
    rest = iter(lines)
    for text in wanted:
        assert any(line.startswith(text) for line in rest), text


def test_the_figures_fit_together(lines):
    layers = {"forward": 0.0, "backward": 0.0}
    for line in lines:
        found = re.match(rf" *\S+\t(forward|backward): {MS}", line)
        if found:
            layers[found[1]] += float(found[2])
    forward = figure(lines, "Average Forward pass: ")
    backward = figure(lines, "Average Backward pass: ")
    both = figure(lines, "Average Forward-Backward: ")
    total = figure(lines, "Total Time: ")
    assert layers["forward"] == pytest.approx(forward, rel=1e-3)
    assert layers["backward"] == pytest.approx(backward, rel=1e-3)
    assert forward + backward <= both
    assert total == pytest.approx(4 * both, rel=1e-4)
    single = [
        float(re.search(MS, line)[1])
        for line in lines
        if line.startswith("Iteration: ")
    ]
    assert len(single) == 4
    assert sum(single) <= total * 1.001


def test_the_phase_is_train_unless_told_otherwise(trained, lines):
    assert "  phase: TRAIN" in lines
    done = trained[0].run(
        "time", "--model=net.prototxt", "--phase=TEST", "--iterations=1"
    )
    assert "\taccuracy" not in done.stderr
    assert "  accuracy\tforward: " in done.stderr
