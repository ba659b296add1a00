"""What ``poseidon device_query`` says of GPUs: Caffe's lines, and short ones."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.backend.gpu.inventory import (
    GpuInfo,
    driver_version,
    free_memory,
    has_driver,
    list_gpus,
    runtime_version,
)
from poseidon_caffe.backend.gpu.reasons import format_bytes, format_cuda
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.gpus import listed_gpus
from poseidon_caffe.errors import GpuError
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["describe_gpus", "gpu_rows", "query_rows"]

_COLUMN: Final = 31  # Caffe's


def describe_gpus(args: Arguments, log: Glog) -> int:
    """Log all about the GPUs of ``--gpu`` in Caffe's lines; the exit code.

    Raises:
        PoseidonError: there is no such GPU, or GPUs cannot be used.
    """
    log.info(tags.DEVICE, f"Querying GPUs {args.text('gpu')}")
    for gpu in listed_gpus(args):
        for name, value in query_rows(gpu):
            log.info(tags.DEVICE_ID, f"{name + ':':<{_COLUMN}}{value}")
    return 0


def query_rows(gpu: GpuInfo) -> list[tuple[str, str]]:
    """Name and value of each line of Caffe's DeviceQuery, in its order."""
    return [
        ("Device id", str(gpu.device)),
        ("Major revision number", str(gpu.major)),
        ("Minor revision number", str(gpu.minor)),
        ("Name", gpu.name),
        ("Total global memory", str(gpu.total_memory)),
        ("Total shared memory per block", str(gpu.shared_memory_per_block)),
        ("Total registers per block", str(gpu.registers_per_block)),
        ("Warp size", str(gpu.warp_size)),
        ("Maximum memory pitch", str(gpu.memory_pitch)),
        ("Maximum threads per block", str(gpu.threads_per_block)),
        ("Maximum dimension of block", _three(gpu.block_dimensions)),
        ("Maximum dimension of grid", _three(gpu.grid_dimensions)),
        ("Clock rate", str(gpu.clock_khz)),
        ("Total constant memory", str(gpu.constant_memory)),
        ("Texture alignment", str(gpu.texture_alignment)),
        ("Concurrent copy and execution", _yes(gpu.can_copy_and_execute)),
        ("Number of multiprocessors", str(gpu.multiprocessors)),
        ("Kernel execution timeout", _yes(gpu.has_timeout)),
    ]


def gpu_rows() -> list[tuple[str, str]]:
    """A short row for each GPU and one for CUDA; [] where there is no driver."""
    if not has_driver():
        return []
    try:
        rows = [(f"GPU {gpu.device}", _short(gpu)) for gpu in list_gpus()]
        runtime = runtime_version()
    except GpuError as error:
        return [("GPU", f"none that can be used: {error}")]
    driver = format_cuda(driver_version())
    return [*rows, ("CUDA", f"{driver} (driver), {format_cuda(runtime)} (CuPy)")]


def _short(gpu: GpuInfo) -> str:
    try:
        free = f"{format_bytes(free_memory(gpu))} free"
    except GpuError as error:
        free = str(error)
    return (
        f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, "
        f"{format_bytes(gpu.total_memory)}, {free}"
    )


def _three(values: tuple[int, int, int]) -> str:
    return ", ".join(map(str, values))


def _yes(value: bool) -> str:  # noqa: FBT001 - not a switch
    return "Yes" if value else "No"
