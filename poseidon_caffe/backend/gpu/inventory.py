"""Which GPUs this machine has, and whether they can be used.

CuPy is imported when somebody asks, and only where there is a driver.  Nothing here
claims a GPU but `free_memory` and `check_gpu`, which are for the process that
computes: another may wait for a GPU that allows one process alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from poseidon_caffe.backend.gpu import reasons
from poseidon_caffe.backend.gpu.settings import is_emulated
from poseidon_caffe.errors import GpuError, UsageError

__all__ = [
    "EMULATED_COUNT",
    "GpuInfo",
    "check_gpu",
    "driver_version",
    "free_memory",
    "has_driver",
    "list_gpus",
    "runtime_version",
]

EMULATED_COUNT: Final = "POSEIDON_EMULATED_GPUS"
"""This variable says how many GPUs the emulator shows; 1 by default."""

# Of cudaDeviceAttr.  CUDA 13's cudaDeviceProp has lost several of its fields, and
# attributes are the same everywhere.
_MAJOR, _MINOR = 75, 76
_SHARED_PER_BLOCK, _REGISTERS_PER_BLOCK, _WARP_SIZE, _PITCH = 8, 12, 10, 11
_THREADS_PER_BLOCK, _BLOCK, _GRID = 1, (2, 3, 4), (5, 6, 7)
_CLOCK_KHZ, _CONSTANT, _TEXTURE_ALIGNMENT = 13, 9, 14
_OVERLAP, _MULTIPROCESSORS, _TIMEOUT, _COMPUTE_MODE = 15, 16, 17, 20
_PROHIBITED: Final = 2

_LIBRARY: Final = "libcuda.so.1"
_EMULATED_NAME: Final = "Poseidon's emulator"
_EMULATED_CUDA: Final = 13000
#: Its compiler knows no generation before Turing.
_CUDA_13: Final = 13000
_OLDEST_FOR_CUDA_13: Final = (7, 5)


@dataclass(frozen=True)
class GpuInfo:
    """One GPU, as Caffe's DeviceQuery tells it.

    Attributes:
        device: number of the GPU, from 0.
        major, minor: compute capability.
        name: as its maker calls it.
        total_memory: bytes.
        shared_memory_per_block: bytes.
        registers_per_block: how many.
        warp_size: threads.
        memory_pitch: greatest, in bytes.
        threads_per_block: greatest number.
        block_dimensions, grid_dimensions: greatest, in x, y and z.
        clock_khz: clock rate.
        constant_memory: bytes.
        texture_alignment: bytes.
        can_copy_and_execute: copies run beside kernels.
        multiprocessors: how many.
        has_timeout: a kernel that runs long is ended.
        is_prohibited: nobody may compute on it now.
    """

    device: int
    major: int
    minor: int
    name: str
    total_memory: int
    shared_memory_per_block: int
    registers_per_block: int
    warp_size: int
    memory_pitch: int
    threads_per_block: int
    block_dimensions: tuple[int, int, int]
    grid_dimensions: tuple[int, int, int]
    clock_khz: int
    constant_memory: int
    texture_alignment: int
    can_copy_and_execute: bool
    multiprocessors: int
    has_timeout: bool
    is_prohibited: bool = False


def list_gpus() -> list[GpuInfo]:
    """All GPUs that this process may see; at least one.

    Raises:
        GpuError: there is none, or no CuPy, or no driver that fits it.
    """
    if is_emulated():
        return [_emulated(index) for index in range(_emulated_count(os.environ))]
    runtime = _runtime()
    try:
        count = int(runtime.getDeviceCount())
        found = [_read(runtime, index) for index in range(count)]
    except runtime.CUDARuntimeError as error:
        raise GpuError(_explain(runtime, error)) from error
    if not found:
        raise GpuError(reasons.describe_no_devices(_visible()))
    return found


def check_gpu(device: int) -> GpuInfo:
    """The GPU of that number, once it is claimed for this process.

    Raises:
        GpuError: there is no such GPU, or it cannot be used now.
    """
    gpus = list_gpus()
    if device >= len(gpus):
        names = [gpu.name for gpu in gpus]
        raise GpuError(reasons.describe_missing_device(device, names))
    gpu = gpus[device]
    if gpu.is_prohibited:
        raise GpuError(reasons.describe_prohibited(device, gpu.name))
    cuda, capability = runtime_version(), (gpu.major, gpu.minor)
    if cuda >= _CUDA_13 and capability < _OLDEST_FOR_CUDA_13:
        words = f"{gpu.major}.{gpu.minor}"
        raise GpuError(reasons.describe_old_gpu(device, gpu.name, words, cuda))
    free_memory(gpu)
    return gpu


def free_memory(gpu: GpuInfo) -> int:
    """Bytes that nobody uses; claims the GPU and makes it this process's own.

    Raises:
        GpuError: it cannot be used now.
    """
    if is_emulated():
        return gpu.total_memory
    runtime = _runtime()
    try:
        runtime.setDevice(gpu.device)
        return int(runtime.memGetInfo()[0])
    except runtime.CUDARuntimeError as error:
        status = int(error.status)
        if status == reasons.UNAVAILABLE:
            text = reasons.describe_busy(gpu.device, gpu.name)
        elif status == reasons.MEMORY_ALLOCATION:
            text = f"GPU {gpu.device} ({gpu.name}) has no memory left: see nvidia-smi"
        else:
            text = _explain(runtime, error)
        raise GpuError(text) from error


def driver_version() -> int:
    """The newest CUDA that the driver knows, as 13020 for 13.2; 0 without driver."""
    if is_emulated():
        return _EMULATED_CUDA
    try:
        library = ctypes.CDLL(_LIBRARY)
        version = ctypes.c_int(0)
        # It may be asked before anything is initialised, and without CuPy.
        failed = library.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else version.value


def has_driver() -> bool:
    """Whether there is a driver, told at once and without CuPy."""
    return driver_version() > 0


def runtime_version() -> int:
    """CuPy's CUDA, as 13020 for 13.2.

    Raises:
        GpuError: CuPy cannot be used.
    """
    return _EMULATED_CUDA if is_emulated() else int(_runtime().runtimeGetVersion())


def _runtime() -> Any:
    """CuPy's binding of CUDA's runtime, where there is a driver for it."""
    driver = driver_version()
    if not driver:
        raise GpuError(reasons.describe_no_driver())
    try:
        import cupy
    except ModuleNotFoundError as error:
        why = "" if error.name == "cupy" else str(error)
        raise GpuError(reasons.describe_missing_cupy(driver, why)) from error
    except ImportError as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise GpuError(reasons.describe_missing_cupy(driver, why)) from error
    return cupy.cuda.runtime


def _explain(runtime: Any, error: Any) -> str:
    """What an error of CUDA's runtime means."""
    status = int(error.status)
    if status == reasons.INSUFFICIENT_DRIVER:
        version = int(runtime.runtimeGetVersion())
        return reasons.describe_old_driver(driver_version(), version)
    if status == reasons.NO_DEVICE:
        return reasons.describe_no_devices(_visible())
    return reasons.describe_cuda(status, str(error))


def _visible() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def _read(runtime: Any, device: int) -> GpuInfo:
    """What CUDA says of one GPU."""
    properties = runtime.getDeviceProperties(device)

    def ask(attribute: int) -> int:
        return int(runtime.deviceGetAttribute(attribute, device))

    def three(attributes: tuple[int, int, int]) -> tuple[int, int, int]:
        x, y, z = attributes
        return ask(x), ask(y), ask(z)

    name = properties["name"]
    return GpuInfo(
        device=device,
        major=ask(_MAJOR),
        minor=ask(_MINOR),
        name=name.decode() if isinstance(name, bytes) else str(name),
        total_memory=int(properties["totalGlobalMem"]),
        shared_memory_per_block=ask(_SHARED_PER_BLOCK),
        registers_per_block=ask(_REGISTERS_PER_BLOCK),
        warp_size=ask(_WARP_SIZE),
        memory_pitch=ask(_PITCH),
        threads_per_block=ask(_THREADS_PER_BLOCK),
        block_dimensions=three(_BLOCK),
        grid_dimensions=three(_GRID),
        clock_khz=ask(_CLOCK_KHZ),
        constant_memory=ask(_CONSTANT),
        texture_alignment=ask(_TEXTURE_ALIGNMENT),
        can_copy_and_execute=bool(ask(_OVERLAP)),
        multiprocessors=ask(_MULTIPROCESSORS),
        has_timeout=bool(ask(_TIMEOUT)),
        is_prohibited=ask(_COMPUTE_MODE) == _PROHIBITED,
    )


def _emulated_count(environment: Mapping[str, str]) -> int:
    text = environment.get(EMULATED_COUNT, "") or "1"
    if not text.isdecimal() or not int(text):
        raise UsageError(
            f"environment variable {EMULATED_COUNT} is {text!r}; expected 1 or more"
        )
    return int(text)


def _emulated(device: int) -> GpuInfo:
    """What the emulator can be said to have: this machine's memory and cores."""
    return GpuInfo(
        device=device,
        major=8,
        minor=0,
        name=_EMULATED_NAME,
        total_memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        shared_memory_per_block=49152,
        registers_per_block=65536,
        warp_size=32,
        memory_pitch=2**31 - 1,
        threads_per_block=1024,
        block_dimensions=(1024, 1024, 64),
        grid_dimensions=(2**31 - 1, 65535, 65535),
        clock_khz=0,
        constant_memory=65536,
        texture_alignment=512,
        can_copy_and_execute=False,
        multiprocessors=os.cpu_count() or 1,
        has_timeout=False,
    )
