"""A process's place as the launcher tells it, and errors of ranks other than 0."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from poseidon_caffe.cli import launched as module
from poseidon_caffe.cli.launched import (
    Launched,
    launched,
    named,
    placed,
    silence,
    tell_of_rank,
)
from poseidon_caffe.errors import ClusterError, DataError, PoseidonError, UsageError
from poseidon_caffe.report.glog import Glog
from tests.cli.program import ROOT

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "2",
}
PMI = {"PMI_RANK": "1", "PMI_SIZE": "2"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Launched(0, 1, 1)),
        ({"HOME": "/"}, Launched(0, 1, 1)),
        ({"SOME_RANK": "5"}, Launched(0, 1, 1)),
        (OPEN_MPI, Launched(3, 8, 4, 2)),
        (PMI, Launched(1, 2, 1, is_placed=False)),
        ({**PMI, "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, Launched(1, 2, 2, 1)),
        ({**PMI, "PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "2"}, Launched(1, 2, 2, 1)),
        (SLURM, Launched(5, 8, 4, 1)),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"}, Launched(3, 1, 4, 2)),
        ({"PMIX_RANK": "1"}, Launched(1, 0, 1, is_placed=False)),
    ],
)
def test_launchers(environment, place):
    assert launched(environment) == place
    assert place.is_alone == (place.size == 1)


def test_where_the_launcher_is_silent_the_hosts_tell_the_place():
    silent = Launched(3, 5, 1, is_placed=False)
    assert placed(silent, 3, ["a", "b", "a", "a", "b"]) == Launched(3, 5, 3, 2)
    told = Launched(3, 5, 2, 1)
    assert placed(told, 3, ["a"] * 5) is told


def test_a_launcher_that_makes_no_sense():
    with pytest.raises(ClusterError, match="OMPI_COMM_WORLD_SIZE"):
        launched({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "many"})


def test_the_rank_and_host_stand_in_front():
    error = named(DataError("no records\nlook there"), 2, "b")
    assert str(error) == "rank 2 (host b): no records\nlook there"
    assert type(error) is PoseidonError
    assert type(named(UsageError("x"), 2, "b")) is UsageError
    assert "rank 1 (host b): KeyError: 'x'" in str(named(KeyError("x"), 1, "b"))


def test_a_silent_rank_still_tells_its_error(monkeypatch):
    monkeypatch.setattr(module, "_HOLD_BACK_S", 0.01)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log = Glog(stream)
    silence(log)
    log.info("x:1", "not said")  # noqa: PLE1205 - a Glog
    log.stream.close()
    assert tell_of_rank(log, DataError("no records"), 2, debug=False) == 1
    pattern = r"F.*\] poseidon: error: rank 2 \(host \S+\): no records\n"
    assert re.fullmatch(pattern, stream.getvalue())
    assert tell_of_rank(log, KeyboardInterrupt(), 2, debug=False) == 130


def test_one_process_does_not_load_the_cluster():
    code = (
        "import sys; from poseidon_caffe.cli.main import run\n"
        "run(['train', '--solver=/no/such', '--staleness=1'])\n"
        "bad = [m for m in sys.modules if m.startswith(('poseidon_caffe.comm', "
        "'mpi4py', 'poseidon_caffe.cli.cluster.'))]\n"
        "assert not bad, bad\n"
        "assert 'numpy' in sys.modules"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
