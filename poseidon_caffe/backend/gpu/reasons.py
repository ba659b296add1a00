"""Why a GPU cannot be used, in words: one clear line each.

Nothing here asks a GPU, so all of it runs and is tested without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = [
    "INSUFFICIENT_DRIVER",
    "MEMORY_ALLOCATION",
    "NO_DEVICE",
    "UNAVAILABLE",
    "describe_busy",
    "describe_cuda",
    "describe_missing_cupy",
    "describe_missing_device",
    "describe_no_devices",
    "describe_no_driver",
    "describe_old_driver",
    "describe_old_gpu",
    "describe_oom",
    "describe_prohibited",
    "format_bytes",
    "format_cuda",
    "pip_command",
]

# Numbers of cudaError_t.
MEMORY_ALLOCATION: Final = 2
_INITIALIZATION: Final = 3
_STUB_LIBRARY: Final = 34
INSUFFICIENT_DRIVER: Final = 35
UNAVAILABLE: Final = 46
NO_DEVICE: Final = 100
_NO_KERNEL_IMAGE: Final = 209
_MISMATCH: Final = 803
_NOT_SUPPORTED: Final = 804

_EXTRAS: Final = {12: "gpu12", 13: "gpu"}
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")

_MEANINGS: Final = {
    _INITIALIZATION: "the driver cannot be started (nvidia-smi may say why)",
    _STUB_LIBRARY: "the libcuda that was found is the toolkit's stub, not the "
    "driver's: take the toolkit's stubs folder out of LD_LIBRARY_PATH",
    _NO_KERNEL_IMAGE: "this CuPy has no code for a GPU of this generation: install "
    "one for another CUDA",
    _MISMATCH: "the driver's parts are of different versions: restart the machine "
    "after an update of the driver",
    _NOT_SUPPORTED: "CUDA's compatibility package does not support this GPU: update "
    "the driver itself",
}


def format_cuda(version: int) -> str:
    """``13020`` as ``13.2``."""
    return f"{version // 1000}.{version % 1000 // 10}"


def format_bytes(count: int) -> str:
    """``1610612736`` as ``1.50 GiB``."""
    if count < 1024:
        return f"{count} bytes"
    size = count / 1024
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} {_UNITS[-1]}"


def pip_command(driver: int) -> str:
    """What installs the CuPy that fits a driver.

    Args:
        driver: newest CUDA that it knows, as 13020 for 13.2; 0 when unknown.
    """
    command = "pip install 'poseidon-caffe[{}]'"
    if not driver:
        return (
            f"{command.format('gpu')} for CUDA 13, {command.format('gpu12')} for "
            "CUDA 12 (nvidia-smi shows which one the driver has)"
        )
    return command.format(_EXTRAS.get(min(driver // 1000, 13), "gpu12"))


def describe_missing_cupy(driver: int, why: str = "") -> str:
    """CuPy is not installed, or its import fails.

    Args:
        driver: see `pip_command`.
        why: what the import said, when CuPy is there.
    """
    if why:
        return f"CuPy cannot be loaded ({why}); reinstall it: {pip_command(driver)}"
    return f"GPUs need CuPy, which is not installed: {pip_command(driver)}"


def describe_no_driver() -> str:
    """The machine has no libcuda."""
    return (
        "no NVIDIA driver here: libcuda.so.1 cannot be loaded (a container must be "
        "started with --gpus all)"
    )


def describe_old_driver(driver: int, runtime: int) -> str:
    """The driver is older than the CUDA that CuPy was built for.

    Args:
        driver: newest CUDA that the driver knows, as 12040 for 12.4.
        runtime: CuPy's CUDA, likewise.
    """
    advice = "update the driver"
    if driver // 1000 in _EXTRAS and driver // 1000 < runtime // 1000:
        package = f"cupy-cuda{runtime // 1000}x"
        advice += f", or: pip uninstall {package}; {pip_command(driver)}"
    return (
        f"wrong CUDA: the NVIDIA driver supports CUDA {format_cuda(driver)} at most, "
        f"and the CuPy installed is for CUDA {format_cuda(runtime)}; {advice}"
    )


def describe_no_devices(visible: str | None) -> str:
    """The driver shows no GPU.

    Args:
        visible: value of CUDA_VISIBLE_DEVICES, None when it is not set.
    """
    if visible is None:
        return "the NVIDIA driver finds no GPU in this machine (see nvidia-smi)"
    return f"no GPU is visible: CUDA_VISIBLE_DEVICES is {visible!r}"


def describe_missing_device(device: int, names: Sequence[str]) -> str:
    """There is no GPU of that number.

    Args:
        device: the number asked for.
        names: of the GPUs that there are, in order.
    """
    if not names:
        return f"no GPU {device}: there is none"
    known = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
    return f"no GPU {device}: there {'is' if len(names) == 1 else 'are'} {known}"


def describe_busy(device: int, name: str) -> str:
    """Another process has the GPU for itself, or it cannot be reached."""
    return (
        f"GPU {device} ({name}) is busy or unavailable: another process may hold it "
        f"alone (compute mode Exclusive_Process); nvidia-smi -i {device} shows who"
    )


def describe_prohibited(device: int, name: str) -> str:
    """The GPU's compute mode allows nobody to compute."""
    return (
        f"GPU {device} ({name}) is set to compute mode Prohibited; to allow it: "
        f"nvidia-smi -i {device} -c DEFAULT"
    )


def describe_old_gpu(device: int, name: str, capability: str, cuda: int) -> str:
    """CUDA compiles nothing for GPUs of that generation any more.

    Args:
        device: its number.
        name: what NVIDIA calls it.
        capability: as "7.0".
        cuda: CuPy's CUDA, as 13020 for 13.2.
    """
    return (
        f"GPU {device} ({name}, compute capability {capability}) is too old for CUDA "
        f"{format_cuda(cuda)}, which needs 7.5 or newer; take CUDA 12: pip uninstall "
        "-y cupy-cuda13x && pip install 'poseidon-caffe[gpu12]'"
    )


def describe_cuda(status: int, message: str) -> str:
    """Any other error of CUDA.

    Args:
        status: number of the error.
        message: CUDA's own words.
    """
    meaning = _MEANINGS.get(status, "")
    return f"CUDA failed: {message}" + (f"; {meaning}" if meaning else "")


def describe_oom(
    layer: str,
    wanted_bytes: int,
    free_bytes: int,
    batch: int | None = None,
    batch_that_fits: int | None = None,
) -> str:
    """A GPU's memory is not enough for a net.

    Args:
        layer: whose blobs, parameters or workspace were to be made.
        wanted_bytes: what was asked for.
        free_bytes: what there was.
        batch: the present batch size, None when unknown.
        batch_that_fits: the largest that would, by estimate; 0 when no sample does,
            None when nobody knows.
    """
    text = (
        f"out of GPU memory at layer '{layer}': wanted {format_bytes(wanted_bytes)}, "
        f"{format_bytes(free_bytes)} free"
    )
    if batch_that_fits == 0:
        return f"{text}; not even a batch of 1 would fit this GPU"
    if batch is None or batch_that_fits is None or batch_that_fits >= batch:
        return f"{text}; take a smaller batch_size"
    return f"{text}; a batch of {batch_that_fits} would fit, this one is {batch}"
