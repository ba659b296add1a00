"""MPI libraries are asked whether they take memory of a GPU."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

import pytest

from poseidon_caffe.backend.gpu.aware_mpi import loaded_mpi, mpi_takes_device_memory

SOURCE = "int MPIX_Query_cuda_support(void) { return ANSWER; }"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="makes libraries with gcc")
def test_a_library_says_what_it_can(tmp_path):
    made = {}
    for name, flag in (
        ("can", "-DANSWER=1"),
        ("cannot", "-DANSWER=0"),
        ("silent", "-DMPIX_Query_cuda_support=other -DANSWER=1"),
    ):
        made[name] = str(tmp_path / f"libmpi_{name}.so.1")
        command = ["gcc", "-shared", "-fPIC", *flag.split(), "-x", "c", "-"]
        subprocess.run([*command, "-o", made[name]], input=SOURCE.encode(), check=True)
    assert not mpi_takes_device_memory(made.values()), "none is loaded for the question"
    kept = [ctypes.CDLL(path, mode=os.RTLD_NOW) for path in made.values()]
    assert set(made.values()) <= set(loaded_mpi())
    assert mpi_takes_device_memory([made["can"]])
    assert not mpi_takes_device_memory([made["cannot"]])
    assert not mpi_takes_device_memory([made["silent"]])
    assert mpi_takes_device_memory([made["cannot"], made["silent"], made["can"]])
    assert kept


@pytest.mark.mpi
def test_this_mpi_is_found_and_asked():
    code = (
        "import mpi4py; mpi4py.rc.initialize = False\n"
        "from mpi4py import MPI\n"
        "from poseidon_caffe.backend.gpu import aware_mpi\n"
        "print(len(aware_mpi.loaded_mpi()), aware_mpi.mpi_takes_device_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    count, answer = done.stdout.split()
    assert int(count) >= 1
    assert answer in {"True", "False"}
