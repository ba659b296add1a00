"""How many threads compute: decided before NumPy loads its thread pools."""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping
from typing import Final

from poseidon_caffe.cli.flags import Flag
from poseidon_caffe.errors import UsageError

__all__ = ["THREADS", "choose", "cores", "is_bound", "prepare"]

# An idle OpenMP thread spins this often before it sleeps: about as long as Python
# takes from one kernel to the next. Measured on LeNet, 2 threads on 2 cores: 22 ms an
# iteration at 1000 spins, 13.5 at 5000, 10.4 at 20000 and with GNU's default, which
# spins for milliseconds and so keeps data threads (and other programs) off the core.
_SPINS: Final = "20000"

THREADS: Final = Flag(
    "threads",
    0,
    "threads that compute (default: $OMP_NUM_THREADS, or the cores this process may "
    "use, shared by the ranks on this machine, less one for data when there are more "
    "than two)",
    value="N",
)


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_bound() -> bool:
    """Whether mpirun bound this rank to cores of its own (its default for two)."""
    with contextlib.suppress(AttributeError, OSError):
        own, starter = os.sched_getaffinity(0), os.sched_getaffinity(os.getppid())
        return own < starter
    return False


def choose(
    asked: int, environment: MutableMapping[str, str], local_ranks: int = 1
) -> int:
    """The number of computing threads.

    Args:
        asked: value of ``--threads``; 0 leaves it to us.
        environment: may hold OMP_NUM_THREADS.
        local_ranks: ranks on this machine, which share its cores.

    Raises:
        UsageError: ``asked`` is negative.
    """
    if asked < 0:
        raise UsageError(f"--threads: expected 1 or more, received {asked}")
    if asked:
        return asked
    preset = environment.get("OMP_NUM_THREADS", "").split(",")[0]
    if preset.isdigit() and int(preset):
        return int(preset)
    available = cores()
    if local_ranks > 1 and not is_bound():
        available = max(available // local_ranks, 1)
    return available - 1 if available > 2 else available


def prepare(
    asked: int,
    environment: MutableMapping[str, str] = os.environ,
    local_ranks: int = 1,
) -> int:
    """Set what OpenMP and OpenBLAS read when they are loaded; call before NumPy.

    A waiting policy that is set already (OMP_WAIT_POLICY, GOMP_SPINCOUNT) stays.

    Args:
        asked: value of ``--threads``; 0 leaves it to us.
        environment: is changed.
        local_ranks: ranks on this machine, which share its cores.

    Returns:
        The number of computing threads.
    """
    count = choose(asked, environment, local_ranks)
    environment["OMP_NUM_THREADS"] = str(count)
    environment["OPENBLAS_NUM_THREADS"] = str(count)
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
    return count
