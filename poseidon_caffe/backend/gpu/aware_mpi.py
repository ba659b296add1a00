"""Whether the MPI library of this process sends and receives memory of a GPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["loaded_mpi", "mpi_takes_device_memory"]

_MAPS = Path("/proc/self/maps")


def loaded_mpi() -> list[str]:
    """Paths of the MPI libraries that the process has loaded."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
    return [path for path in paths if Path(path).name.startswith("libmpi")]


def mpi_takes_device_memory(libraries: Iterable[str] | None = None) -> bool:
    """What the library says itself ("CUDA-aware"); one that says nothing does not.

    Open MPI and MPICH have ``MPIX_Query_cuda_support`` for it.

    Args:
        libraries: to ask, by default those of `loaded_mpi`; none is loaded for it.
    """
    for path in loaded_mpi() if libraries is None else libraries:
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            query = library.MPIX_Query_cuda_support
        except (OSError, AttributeError):
            continue
        query.argtypes, query.restype = [], ctypes.c_int
        if query():
            return True
    return False
