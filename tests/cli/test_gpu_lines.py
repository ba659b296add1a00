"""``poseidon device_query`` of GPUs: Caffe's lines."""

from __future__ import annotations

import os

from poseidon_caffe.backend.gpu import inventory
from poseidon_caffe.backend.gpu.inventory import list_gpus
from poseidon_caffe.cli.gpu_lines import gpu_rows, query_rows
from poseidon_caffe.errors import GpuError
from tests.cli.program import poseidon

TWO = {"POSEIDON_GPU": "emulated", "POSEIDON_EMULATED_GPUS": "2"}

# Of Caffe 1.0's src/caffe/common.cpp, in its order and columns.
CAFFES = """\
Device id:                     1
Major revision number:         8
Minor revision number:         0
Name:                          Poseidon's emulator
Total global memory:           {memory}
Total shared memory per block: 49152
Total registers per block:     65536
Warp size:                     32
Maximum memory pitch:          2147483647
Maximum threads per block:     1024
Maximum dimension of block:    1024, 1024, 64
Maximum dimension of grid:     2147483647, 65535, 65535
Clock rate:                    0
Total constant memory:         65536
Texture alignment:             512
Concurrent copy and execution: No
Number of multiprocessors:     {cores}
Kernel execution timeout:      No
"""


def lines(stderr: str) -> list[str]:
    return [line.split("] ", 1)[1] for line in stderr.splitlines()]


def test_caffes_lines():
    done = poseidon("device_query", "-gpu", "1", **TWO)
    assert done.returncode == 0
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    expected = CAFFES.format(memory=memory, cores=os.cpu_count())
    assert lines(done.stderr) == ["Querying GPUs 1", *expected.splitlines()]


def test_all_of_them_one_after_the_other():
    done = poseidon("device_query", "--gpu=all", **TWO)
    found = lines(done.stderr)
    assert found[0] == "Querying GPUs all"
    ids = [line.split()[-1] for line in found if line.startswith("Device id:")]
    assert ids == ["0", "1"]
    assert len(found) == 1 + 2 * len(CAFFES.splitlines())


def test_one_that_is_not_there_is_one_clear_line():
    done = poseidon("device_query", "--gpu=2", **TWO)
    assert done.returncode == 1
    [error] = lines(done.stderr)[1:]
    name = "Poseidon's emulator"
    assert error == f"poseidon: error: no GPU 2: there are 0 ({name}), 1 ({name})"


def test_a_short_line_each_beside_the_processor():
    done = poseidon("device_query", **TWO)
    assert done.returncode == 0
    found = lines(done.stderr)
    assert "Device:               CPU" in found
    assert found[-3].startswith("GPU 0:                Poseidon's emulator, compute ")
    assert found[-2].startswith("GPU 1:")
    assert found[-1] == "CUDA:                 13.0 (driver), 13.0 (CuPy)"


def test_no_driver_no_lines_and_an_unfit_one_says_why(monkeypatch):
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    monkeypatch.setattr(inventory, "driver_version", lambda: 0)
    assert gpu_rows() == []

    def fail() -> list:
        raise GpuError("wrong CUDA")

    monkeypatch.setattr("poseidon_caffe.cli.gpu_lines.has_driver", lambda: True)
    monkeypatch.setattr("poseidon_caffe.cli.gpu_lines.list_gpus", fail)
    assert gpu_rows() == [("GPU", "none that can be used: wrong CUDA")]


def test_a_true_switch_says_yes(monkeypatch):
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    [gpu] = list_gpus()
    rows = dict(query_rows(gpu))
    assert rows["Kernel execution timeout"] == "No"
    assert (
        dict(query_rows(type(gpu)(**{**vars(gpu), "has_timeout": True})))[
            "Kernel execution timeout"
        ]
        == "Yes"
    )
