"""Which GPU this process takes, and Caffe's lines about it."""

from __future__ import annotations

from typing import Any

from poseidon_caffe.backend.gpu import reasons
from poseidon_caffe.backend.gpu.inventory import GpuInfo, check_gpu, list_gpus
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.gpu_flags import NUMERIC_FLAGS, asked_gpus
from poseidon_caffe.cli.launched import Launched
from poseidon_caffe.errors import GpuError, UsageError
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["gpu_settings", "listed_gpus", "single_gpu", "training_gpu"]


def listed_gpus(args: Arguments) -> list[GpuInfo]:
    """The GPUs of ``--gpu``, in its order; [] without the flag. None is claimed.

    Raises:
        UsageError: ``--gpu`` is neither numbers nor ``all``.
        GpuError: GPUs cannot be used, or there is no such one.
    """
    asked = asked_gpus(args)
    if asked == ():
        return []
    gpus = list_gpus()
    return gpus if asked is None else [_pick(gpus, device) for device in asked]


def gpu_settings(args: Arguments, device: int) -> GpuSettings:
    """How GPU ``device`` is to compute by the flags, once it is claimed.

    Raises:
        GpuError: it cannot be used.
    """
    check_gpu(device)
    return GpuSettings(
        device=device,
        precision=args.text("precision"),
        deterministic=args.boolean("deterministic"),
        cuda_graph=args.boolean("cuda_graph"),
    )


def single_gpu(args: Arguments, log: Glog, *, tag: str) -> GpuSettings | None:
    """The first GPU of ``--gpu``, for a command that uses one; None for the CPU.

    Args:
        args: the command's.
        log: gets Caffe's lines.
        tag: of these lines.

    Raises:
        PoseidonError: see `listed_gpus`.
    """
    gpus = listed_gpus(args)
    if not gpus:
        _note_idle(args, log)
        return None
    for gpu in reversed(gpus[1:]):
        log.info(tag, f"Not using GPU #{gpu.device} for single-GPU function")
    log.info(tag, f"Use GPU with device ID {gpus[0].device}")
    log.info(tag, f"GPU device name: {gpus[0].name}")
    return gpu_settings(args, gpus[0].device)


def training_gpu(
    args: Arguments, param: Any, path: str, place: Launched, log: Glog
) -> GpuSettings | None:
    """The GPU of this rank, or None for the CPU.

    ``--gpu`` decides; without it the solver's own ``solver_mode: GPU``, which is no
    error where there is no GPU.  Of several GPUs a rank takes that of its place among
    the ranks on its machine.

    Args:
        args: the command's.
        param: the SolverParameter; gets the mode and the first GPU.
        path: of the solver's prototxt.
        place: this rank's.
        log: gets Caffe's lines.

    Raises:
        PoseidonError: the GPUs that were asked for cannot be used.
    """
    gpus = listed_gpus(args) or _solver_gpus(param, path, place, log)
    if not gpus:
        _note_idle(args, log)
        return None
    used = gpus[: max(place.local_size, 1)]
    log.info(tags.USING_GPUS, f"Using GPUs {', '.join(str(g.device) for g in used)}")
    for gpu in used:
        log.info(tags.GPU_NAME, f"GPU {gpu.device}: {gpu.name}")
    _warn_shared(gpus, place, log)
    param.device_id = gpus[0].device
    return gpu_settings(args, gpus[place.local_rank % len(gpus)].device)


def _solver_gpus(param: Any, path: str, place: Launched, log: Glog) -> list[GpuInfo]:
    """The GPUs that ``solver_mode: GPU`` means; [] and a warning where there are none.

    The proto's default is GPU, so only what is written out counts.
    """
    if not param.HasField("solver_mode") or param.solver_mode != param.GPU:
        return []
    try:
        gpus = list_gpus()
    except GpuError as error:
        log.warning(
            tags.POSEIDON, f"{path}: solver_mode: GPU: {error}; training on the CPU"
        )
        param.solver_mode = param.CPU
        return []
    if param.HasField("device_id"):
        return [_pick(gpus, int(param.device_id))]
    return gpus[:1] if place.is_alone else gpus


def _pick(gpus: list[GpuInfo], device: int) -> GpuInfo:
    if not 0 <= device < len(gpus):
        names = [gpu.name for gpu in gpus]
        raise GpuError(reasons.describe_missing_device(device, names))
    return gpus[device]


def _warn_shared(gpus: list[GpuInfo], place: Launched, log: Glog) -> None:
    """One line when ranks of this machine have to share GPUs."""
    distinct = len({gpu.device for gpu in gpus[: place.local_size]})
    if place.local_size > distinct:
        named = "1 GPU" if distinct == 1 else f"{distinct} GPUs"
        log.warning(
            tags.POSEIDON,
            f"{place.local_size} ranks on this machine share {named}: they take turns, "
            "and each needs a part of the memory",
        )


def _note_idle(args: Arguments, log: Glog) -> None:
    """One line when flags of GPUs are given to a process without one.

    Raises:
        UsageError: numbers of 16 bits are asked for, which CPUs do not compute with.
    """
    precision = args.text("precision")
    if precision in {"bf16", "fp16"}:
        raise UsageError(
            f"--precision {precision} needs a GPU, and this runs on the CPU, in "
            "float32: give --gpu 0 too, or leave --precision out"
        )
    given = [f"--{flag.name}" for flag in NUMERIC_FLAGS if flag.name in args.given]
    if given:
        log.warning(tags.POSEIDON, f"{', '.join(given)}: no effect on the CPU")
