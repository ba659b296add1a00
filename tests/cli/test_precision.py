"""``poseidon train --precision`` on the emulator, from the command line."""

from __future__ import annotations

import re

import pytest

from tests.cli.test_emulated_gpus import EMULATED, weights


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_learns_and_its_snapshot_goes_on(workspace, precision):
    workspace.write(max_iter="20", display="10", test_interval="20", snapshot="10")
    flags = ("--gpu", "0", "--precision", precision)
    done = workspace.train(*flags, **EMULATED)
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"Iteration \d+.*loss = (\S+)", done.stderr)]
    assert losses[-1] < 0.8 * losses[0]
    model = workspace.folder / "out_iter_20.caffemodel"
    whole = weights(model)
    model.unlink()
    state = ("--snapshot", "out_iter_10.solverstate")
    done = workspace.train(*flags, *state, **EMULATED)
    assert done.returncode == 0, done.stderr
    for one, other in zip(whole, weights(model), strict=True):
        assert (one == other).all()


def test_a_cpu_says_what_to_do(workspace):
    done = workspace.train("--precision", "bf16")
    assert done.returncode != 0
    assert "--precision bf16 needs a GPU" in done.stderr
    assert "Traceback" not in done.stderr
