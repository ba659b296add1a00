"""GPUs as CuPy or the emulator shows them, and what is said when there are none.

The driver and CuPy are played by the smallest thing that answers like them; what a
real GPU says is compared where there is one.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from poseidon_caffe.backend.gpu import inventory
from poseidon_caffe.backend.gpu.inventory import (
    check_gpu,
    driver_version,
    free_memory,
    list_gpus,
    runtime_version,
)
from poseidon_caffe.errors import BackendError, GpuError, UsageError


class CudaError(RuntimeError):
    """Has a status, as CuPy's CUDARuntimeError has."""

    def __init__(self, status: int, text: str = "cudaErrorSomething: words") -> None:
        super().__init__(text)
        self.status = status


class Runtime:
    """Answers like ``cupy.cuda.runtime`` with two GPUs, until it is to fail."""

    CUDARuntimeError = CudaError

    def __init__(self, fails: dict[str, int] | None = None, mode: int = 0) -> None:
        self.fails, self.mode, self.device = fails or {}, mode, None

    def _may(self, name: str) -> None:
        if name in self.fails:
            raise CudaError(self.fails[name])

    def getDeviceCount(self) -> int:
        self._may("count")
        return 2

    def runtimeGetVersion(self) -> int:
        return 13020

    def getDeviceProperties(self, device: int) -> dict:
        return {"name": f"H{device}00".encode(), "totalGlobalMem": 85 << 30}

    def deviceGetAttribute(self, attribute: int, device: int) -> int:
        return self.mode if attribute == 20 else attribute

    def setDevice(self, device: int) -> None:
        self.device = device

    def memGetInfo(self) -> tuple[int, int]:
        self._may("memory")
        return 1 << 30, 85 << 30


@pytest.fixture
def machine(monkeypatch):
    """Puts a driver and a CuPy in place."""
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(runtime: Runtime | None, driver: int = 13020) -> Runtime | None:
        monkeypatch.setattr(inventory, "driver_version", lambda: driver)
        module = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
        monkeypatch.setitem(sys.modules, "cupy", module if runtime else None)
        return runtime

    return make


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    monkeypatch.delenv("POSEIDON_EMULATED_GPUS", raising=False)
    return monkeypatch


def test_the_emulators_gpus(emulated):
    assert [gpu.device for gpu in list_gpus()] == [0]
    emulated.setenv("POSEIDON_EMULATED_GPUS", "3")
    gpus = list_gpus()
    assert [gpu.device for gpu in gpus] == [0, 1, 2]
    assert gpus[0].warp_size == 32
    assert 0 < free_memory(gpus[2]) <= gpus[2].total_memory
    assert check_gpu(2) == gpus[2]
    assert driver_version() == runtime_version()
    with pytest.raises(GpuError, match=r"no GPU 3: there are 0 \(.*, 2 \("):
        check_gpu(3)
    emulated.setenv("POSEIDON_EMULATED_GPUS", "none")
    with pytest.raises(UsageError, match="POSEIDON_EMULATED_GPUS is 'none'"):
        list_gpus()


def test_what_cuda_says_is_in_its_place(machine):
    machine(Runtime())
    first, second = list_gpus()
    assert (first.device, first.name) == (0, "H000")
    assert second.name == "H100"
    assert second.total_memory == 85 << 30
    # The stand-in gives the number of an attribute as its value.
    assert (second.major, second.minor) == (75, 76)
    assert second.block_dimensions == (2, 3, 4)
    assert second.grid_dimensions == (5, 6, 7)
    assert (second.threads_per_block, second.shared_memory_per_block) == (1, 8)
    assert (second.constant_memory, second.warp_size, second.memory_pitch) == (
        9,
        10,
        11,
    )
    assert (second.registers_per_block, second.clock_khz) == (12, 13)
    assert (second.texture_alignment, second.multiprocessors) == (14, 16)
    assert second.can_copy_and_execute
    assert second.has_timeout


def test_a_gpu_is_claimed_by_whoever_computes_only(machine):
    runtime = machine(Runtime())
    list_gpus()
    assert runtime.device is None
    check_gpu(1)
    assert runtime.device == 1


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (35, "wrong CUDA: the NVIDIA driver supports CUDA 12.4 at most"),
        (100, "finds no GPU in this machine"),
        (803, "cudaErrorSomething: words; the driver's parts"),
        (999, "CUDA failed: cudaErrorSomething: words"),
    ],
)
def test_errors_of_cuda(machine, status, text):
    machine(Runtime({"count": status}), driver=12040)
    with pytest.raises(GpuError) as caught:
        list_gpus()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BackendError)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (46, r"GPU 1 \(H100\) is busy or unavailable"),
        (2, r"GPU 1 \(H100\) has no memory left"),
        (999, "CUDA failed"),
    ],
)
def test_a_gpu_that_cannot_be_had(machine, status, text):
    machine(Runtime({"memory": status}))
    with pytest.raises(GpuError, match=text):
        check_gpu(1)


def test_a_gpu_on_which_nobody_may_compute(machine):
    machine(Runtime(mode=2))
    with pytest.raises(GpuError, match="Prohibited; to allow it: nvidia-smi -i 0"):
        check_gpu(0)


class Volta(Runtime):
    """A V100; with CUDA 12 if ``version`` says so."""

    version = 13020

    def deviceGetAttribute(self, attribute: int, device: int) -> int:
        capability = {75: 7, 76: 0}
        return capability.get(attribute, super().deviceGetAttribute(attribute, device))

    def runtimeGetVersion(self) -> int:
        return self.version


def test_a_gpu_that_cuda_13_has_left_behind(machine):
    runtime = machine(Volta())
    text = r"GPU 0 \(H000, .* 7\.0\) is too old for CUDA 13\.2.*\[gpu12\]"
    with pytest.raises(GpuError, match=text):
        check_gpu(0)
    runtime.version = 12090
    assert check_gpu(0).major == 7


def test_no_visible_gpu(machine, monkeypatch):
    machine(Runtime({"count": 100}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    with pytest.raises(GpuError, match="CUDA_VISIBLE_DEVICES is '9'"):
        list_gpus()


def test_no_cupy_and_no_driver(machine):
    machine(None, driver=12040)
    with pytest.raises(GpuError, match=r"not installed: .*\[gpu12\]"):
        list_gpus()
    machine(Runtime(), driver=0)
    with pytest.raises(GpuError, match="no NVIDIA driver here"):
        list_gpus()


def test_this_machine_answers_one_way_or_the_other(monkeypatch):
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    try:
        gpus = list_gpus()
    except GpuError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either is right
    else:
        assert gpus[0].warp_size == 32
        assert 1000 <= driver_version() < 100000
