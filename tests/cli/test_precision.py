"""``poseidon train --precision`` on the emulator, from the command line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests.cli.program import PROGRAM
from tests.cli.test_emulated_gpus import EMULATED, weights
from tests.comm.launch import mpirun


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


@pytest.mark.mpi
@pytest.mark.parametrize("flags", [("--svb=on",), ("--staleness=1",)])
def test_ranks_skip_together_and_their_snapshot_goes_on(workspace, flags):
    """Gradients overflow at first: were the scale lost, the next ones would again."""
    workspace.net = workspace.net.replace(
        'top: "loss"\n}', 'top: "loss" loss_weight: 80\n}'
    )
    workspace.write(max_iter="12", base_lr="0.00125", test_interval="12", snapshot="8")

    def train(*more):
        args = ("train", "--solver=solver.prototxt", "--gpu=0", "--precision=fp16")
        done = mpirun(
            2, *PROGRAM[1:], *args, *flags, *more, env=EMULATED, cwd=workspace.folder
        )
        assert done.rc == 0, done.said

    train()
    name = "out_iter_12.caffemodel"
    whole = weights(workspace.folder / name)
    assert all(np.isfinite(array).all() for array in whole)
    first = json.loads((workspace.folder / "out_iter_8.poseidonstate").read_text())
    scales = [worker["loss_scale"] for worker in first["workers"]]
    assert scales[0] == scales[1]
    assert scales[0]["factor"] < 2.0**16
    assert 0 < scales[0]["skipped"] < 8
    (workspace.folder / name).unlink()
    train("--snapshot=out_iter_8.solverstate")
    again = weights(workspace.folder / name)
    if "--svb=on" in flags:  # stale runs differ
        for one, other in zip(whole, again, strict=True):
            assert (one == other).all()
    last = json.loads((workspace.folder / "out_iter_12.poseidonstate").read_text())
    for worker in last["workers"]:
        assert worker["loss_scale"] == {**scales[0], "good": scales[0]["good"] + 4}


def test_a_cpu_says_what_to_do(workspace):
    done = workspace.train("--precision", "bf16")
    assert done.returncode != 0
    assert "--precision bf16 needs a GPU" in done.stderr
    assert "Traceback" not in done.stderr
