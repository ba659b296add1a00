"""Whether, and by whom, this process was started as one rank of many; without MPI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from poseidon_caffe.errors import ClusterError

__all__ = ["World", "launched_world"]


class World(NamedTuple):
    """What a launcher told this process.

    Attributes:
        rank: of this process.
        size: how many ranks; 0: the launcher does not say, MPI will.
        local_rank: of this process among those on its machine; 0 when not told.
        local_size: how many ranks are on this machine; 0 when not told.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int


# Names of rank, size, local rank, local size, the most telling launcher first: a
# Slurm allocation's variables are still there under mpirun.  In a batch script
# SLURM_PROCID and SLURM_NTASKS are set without any rank having been started, so
# only what srun gives its steps counts.
_LAUNCHERS = (
    (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    (
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)


def launched_world(environ: Mapping[str, str]) -> World | None:
    """What the launcher (mpirun, mpiexec, srun) says; None: there was none.

    Args:
        environ: the process's variables.

    Raises:
        ClusterError: a launcher's variable is not a number.
    """
    for rank, size, local_rank, local_size in _LAUNCHERS:
        if environ.get(rank) and environ.get(size):
            return World(
                _number(environ, rank),
                _number(environ, size),
                _number(environ, local_rank) or _number(environ, "PMI_LOCAL_RANK"),
                _number(environ, local_size)
                or _slurm_local_size(environ)
                or _number(environ, "PMI_LOCAL_SIZE"),
            )
    if environ.get("PMIX_RANK"):
        return World(_number(environ, "PMIX_RANK"), 0, 0, 0)
    return None


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "") or "0"
    if not text.isdecimal():
        raise ClusterError(
            f"environment variable {name} is {text!r}, expected a number: it is set by "
            "mpirun or srun; unset it to train in one process"
        )
    return int(text)


def _slurm_local_size(environ: Mapping[str, str]) -> int:
    """Ranks on this node by Slurm's list, for example ``2(x3),1``."""
    listed = environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", listed):
        counts += [int(count)] * int(times or 1)
    node = _number(environ, "SLURM_NODEID")
    return counts[node] if node < len(counts) else 0
