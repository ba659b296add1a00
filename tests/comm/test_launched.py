"""What the launchers tell a process."""

from __future__ import annotations

import pytest

from poseidon_caffe.comm.launched import World, launched_world
from poseidon_caffe.errors import ClusterError

_SRUN = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "1"}
_OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_RANK": "3",
}
_HYDRA = {
    "PMI_RANK": "0",
    "PMI_SIZE": "4",
    "MPI_LOCALRANKID": "0",
    "MPI_LOCALNRANKS": "4",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (_OPEN_MPI, World(3, 8, 1, 2)),
        (_HYDRA, World(0, 4, 0, 4)),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, World(1, 4, 0, 0)),
        (_SRUN, World(5, 6, 1, 0)),
        ({"PMIX_RANK": "2"}, World(2, 0, 0, 0)),
        ({"PMIX_RANK": "5", **_SRUN}, World(5, 6, 1, 0)),
        # mpirun inside an allocation: Slurm's own numbers count the daemons.
        ({**_SRUN, **_OPEN_MPI}, World(3, 8, 1, 2)),
        # A batch script is one process, whatever was asked of Slurm for srun.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
        ({"OMPI_COMM_WORLD_RANK": "", "OMPI_COMM_WORLD_SIZE": ""}, None),
    ],
)
def test_each_launcher_is_understood(environ, expected):
    assert launched_world(environ) == expected


@pytest.mark.parametrize(
    ("listed", "node", "expected"),
    [("2(x3)", "1", 2), ("2(x2),1", "2", 1), ("4", "0", 4), ("4", "3", 0)],
)
def test_slurm_lists_the_ranks_of_each_node(listed, node, expected):
    environ = {**_SRUN, "SLURM_STEP_TASKS_PER_NODE": listed, "SLURM_NODEID": node}
    assert launched_world(environ).local_size == expected


def test_a_broken_variable_is_named():
    with pytest.raises(ClusterError, match=r"PMI_SIZE is 'four', expected a number"):
        launched_world({"PMI_RANK": "0", "PMI_SIZE": "four"})
