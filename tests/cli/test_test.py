"""``poseidon test``: Caffe's lines, and the same scores that training printed."""

from __future__ import annotations

import re

import pytest

from tests.cli.program import FATAL
from tests.report import log_parsers

NUMBER = r"[-+0-9.e]+"


def messages(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    start = next(i for i, x in enumerate(lines) if "] Running for " in x)
    return [line.split("] ", 1)[1] for line in lines[start:]]


def test_batches_and_means(trained):
    space, training = trained
    done = space.run(
        "test",
        "--model=net.prototxt",
        "-weights",
        "out_iter_100.caffemodel",
        "-iterations=6",
    )
    first, *batches = messages(done)
    assert first == "Running for 6 iterations."
    *batches, loss, accuracy_mean, loss_mean = batches
    assert len(batches) == 12
    scores: dict[str, list[float]] = {"accuracy": [], "loss": []}
    for i, line in enumerate(batches):
        found = re.fullmatch(rf"Batch {i // 2}, (accuracy|loss) = ({NUMBER})", line)
        assert found, line
        scores[found[1]].append(float(found[2]))
    # Six batches of 60 are the 360 test records: what the solver's last test saw.
    printed = log_parsers.parse_log_py(training.stderr).test[100]
    assert loss == f"Loss: {printed['loss']:g}"
    assert accuracy_mean == f"accuracy = {printed['accuracy']:g}"
    value = f"{printed['loss']:g}"
    assert loss_mean == f"loss = {value} (* 1 = {value} loss)"
    assert sum(scores["accuracy"]) / 6 == pytest.approx(printed["accuracy"], rel=1e-4)


def test_the_phase_may_be_chosen(trained):
    space, _ = trained
    done = space.run(
        "test",
        "--model=net.prototxt",
        "--weights=out_iter_100.caffemodel",
        "--phase=TRAIN",
        "--iterations=1",
    )
    texts = messages(done)
    assert not [x for x in texts if "accuracy" in x]  # TEST only
    assert "phase: TRAIN" in done.stderr


def test_layers_that_only_the_file_has_are_told(trained, workspace):
    workspace.net = workspace.net.replace('name: "ip2"', 'name: "other"')
    workspace.write()
    model = trained[0].folder / "out_iter_100.caffemodel"
    done = workspace.run(
        "test", "--model=net.prototxt", f"--weights={model}", "--iterations=1"
    )
    assert done.returncode == 0
    assert "] Ignoring source layer ip2\n" in done.stderr


def test_no_iterations_is_an_error(workspace):
    done = workspace.run(
        "test", "--model=net.prototxt", "--weights=x", "--iterations=0"
    )
    assert done.returncode == 1
    found = [FATAL.match(x) for x in done.stderr.splitlines() if x[0] == "F"]
    assert "--iterations" in found[0][1]
