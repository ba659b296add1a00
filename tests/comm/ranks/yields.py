"""Whether Open MPI gives its core away while it waits."""

from __future__ import annotations

import ctypes
from pathlib import Path

from poseidon_caffe.comm.mpi import open_mpi

transport = open_mpi()
mapped = Path("/proc/self/maps").read_text().splitlines()
library = ctypes.CDLL(next(line.split()[-1] for line in mapped if "libmpi.so" in line))
flag = ctypes.c_bool.in_dll(library, "ompi_mpi_yield_when_idle")
print("yields", flag.value, flush=True)
transport.close()
