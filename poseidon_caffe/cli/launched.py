"""What mpirun tells a process of its job, read before anything heavy is loaded.

The thread pools of NumPy must know how many ranks share the machine before MPI can be
asked, so the launcher's environment variables are read here; what counts later is what
MPI itself says.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poseidon_caffe.errors import PoseidonError, UsageError
from poseidon_caffe.report.console import INTERRUPTED, explain, tell
from poseidon_caffe.report.glog import Glog

__all__ = ["Launched", "launched", "placed", "silence", "tell_of_rank"]

# Every launcher sets a variable with such a name.
_TELLING: Final = ("_RANK", "SLURM_PROCID")
# How long a rank keeps its error back in case that rank 0 tells the same and ends all.
_HOLD_BACK_S: Final = 3.0


@dataclass(frozen=True)
class Launched:
    """A process's place in its job; without mpirun it is the only one.

    Attributes:
        rank: of this process.
        size: how many there are; 0 when only MPI will tell.
        local_size: how many of them are on this machine, as far as is known.
        local_rank: of this process among these.
        is_placed: the launcher told the last two.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    local_rank: int = 0
    is_placed: bool = True

    @property
    def is_alone(self) -> bool:
        """Whether there are no other ranks, by all that is known."""
        return self.size == 1


def launched(environment: Mapping[str, str] = os.environ) -> Launched:
    """What the launcher says; the defaults when there was none.

    Raises:
        ClusterError: a launcher's variable is not a number.
    """
    if not any(name.endswith(_TELLING) for name in environment):
        return Launched()
    # The cluster's rooms stay shut for a process that nobody launched.
    from poseidon_caffe.comm.launched import launched_world

    world = launched_world(environment)
    if world is None:
        return Launched()
    is_placed = world.local_size > 0
    local_size = max(world.local_size, 1)
    return Launched(world.rank, world.size, local_size, world.local_rank, is_placed)


def placed(told: Launched, rank: int, hosts: Sequence[str]) -> Launched:
    """``told``, with the place by the hosts' names where the launcher is silent.

    Args:
        told: what the launcher says.
        rank: of this process.
        hosts: by rank.
    """
    if told.is_placed:
        return told
    before, host = list(hosts[:rank]), hosts[rank]
    local_size = list(hosts).count(host)
    return Launched(rank, len(hosts), local_size, before.count(host))


def silence(log: Glog) -> None:
    """Keep ``log`` off stderr: rank 0 speaks for all. Log files stay."""
    log.stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def tell_of_rank(log: Glog, error: BaseException, rank: int, *, debug: bool) -> int:
    """Tell an error that a rank other than 0 met before the ranks were joined.

    Mostly all ranks meet it, so rank 0 is given the time to tell it and to end the
    job, and this process with it.

    Returns:
        The exit code.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    time.sleep(_HOLD_BACK_S)
    log.stream = sys.stderr
    return tell(log, named(error, rank, socket.gethostname()), debug=debug)


def named(error: BaseException, rank: int, host: str) -> PoseidonError:
    """``error`` with the rank that it came from in front."""
    told = explain(error)
    lines = (f"rank {rank} (host {host}): {told.message}", *told.hints)
    wrapped = UsageError if isinstance(error, UsageError) else PoseidonError
    found = wrapped("\n".join(lines)).with_traceback(error.__traceback__)
    found.__cause__ = error
    return found
