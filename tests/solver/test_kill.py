"""SIGKILL at random moments: a resumed run ends with the bits of an unbroken one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.solver.support import LMDB_NET, write_lmdb

ROOT = Path(__file__).parents[2]
SOLVER = """
net: "net.prototxt" type: "Adam" base_lr: 0.001 momentum: 0.9 weight_decay: 0.001
lr_policy: "step" gamma: 0.9 stepsize: 20 max_iter: {iterations} snapshot: 10
snapshot_prefix: "p" test_iter: 2 test_interval: 60 average_loss: 4 display: 50
random_seed: 11
"""
ENDINGS = ("caffemodel", "solverstate", "poseidonstate")


def prepare(folder, iterations, width):
    folder.mkdir()
    write_lmdb(folder)
    # Wide, so that a snapshot takes a while.
    net = LMDB_NET.format(folder=".").replace("num_output: 4", f"num_output: {width}")
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(SOLVER.format(iterations=iterations))


def start(folder):
    words = ["train", "--solver", "solver.prototxt", "--resume", "auto", "--threads=1"]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "poseidon_caffe", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=log,
        )


def results(folder, iterations):
    files = [folder / f"p_iter_{iterations}.{ending}" for ending in ENDINGS]
    return [path.read_bytes() for path in files]


def temporaries(folder):
    """Files of a snapshot that is being written, or was when its run died."""
    return {path for path in folder.iterdir() if path.name.endswith(".tmp")}


def died(process, folder):
    process.kill()
    pytest.fail(f"ended or hung before the kill: {(folder / 'log').read_text()}")


def wait_for(process, folder, condition, limit_s=60):
    end = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < end:
        if condition():
            return
    died(process, folder)


def stop(process, folder):
    """Hold the whole process still; its own end is an error."""
    process.send_signal(signal.SIGSTOP)
    # WNOWAIT: the end, if it is one, stays for Popen to collect.
    flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT
    if os.waitid(os.P_PID, process.pid, flags).si_code != os.CLD_STOPPED:
        died(process, folder)


def stop_inside(process, folder, old, pause_s):
    """Hold the process in the midst of a snapshot, wherever the scheduler runs it."""
    while True:
        wait_for(process, folder, lambda: temporaries(folder) - old)
        time.sleep(pause_s)
        stop(process, folder)
        if temporaries(folder) - old:
            return
        # The pause outlasted the snapshot: the next one, and a shorter pause.
        process.send_signal(signal.SIGCONT)
        pause_s /= 2


def train_and_kill(folder, chance, *, inside):
    """Kill one run; whether that left half a snapshot behind."""
    old = temporaries(folder)
    process = start(folder)
    # Past the start, so that the trials do not all die while importing.
    wait_for(process, folder, lambda: temporaries(folder) - old)
    time.sleep(chance.uniform(0, 0.25))
    if inside:
        stop_inside(process, folder, old, chance.uniform(0, 0.01))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (folder / "log").read_text()
    return bool(temporaries(folder))


@pytest.mark.parametrize(
    ("kills", "iterations", "width"),
    [
        pytest.param(2, 200, 15000),
        pytest.param(
            20, 1500, 4000, marks=[pytest.mark.slow, pytest.mark.timeout(900)]
        ),
    ],
)
def test_killed_runs_end_as_the_unbroken_one(tmp_path, kills, iterations, width):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    prepare(whole, iterations, width)
    prepare(broken, iterations, width)
    assert start(whole).wait() == 0, (whole / "log").read_text()
    chance = random.Random(kills)
    for i in range(kills):
        inside = i % 2 == 0
        half = train_and_kill(broken, chance, inside=inside)
        assert half or not inside
    assert start(broken).wait() == 0, (broken / "log").read_text()
    assert results(broken, iterations) == results(whole, iterations)
    assert not temporaries(broken)
    assert (broken / "log").read_text().count("Resuming from") >= kills - 1
    assert "bare Caffe" not in (broken / "log").read_text()
