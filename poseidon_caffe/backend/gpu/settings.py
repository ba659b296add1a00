"""What the GPU backend is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from poseidon_caffe.errors import UsageError

__all__ = ["CUDNN", "EMULATION", "PRECISIONS", "GpuSettings", "is_emulated"]

PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16")
"""fp32: all in float32. tf32: products of float32 on tensor cores. bf16, fp16:
activations in 16 bits, parameters in float32."""

EMULATION: Final = "POSEIDON_GPU"
"""This variable's value ``emulated`` lets the processor play GPU, for tests."""

CUDNN: Final = "POSEIDON_CUDNN"
"""This variable chooses cuDNN's interface: ``legacy``, ``graph``, or ``off``."""


def is_emulated(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the emulator stands in for CUDA.

    Raises:
        UsageError: the variable has a value that means nothing.
    """
    value = environment.get(EMULATION, "")
    if value not in {"", "emulated"}:
        raise UsageError(
            f"environment variable {EMULATION} is {value!r}; expected 'emulated', "
            "or nothing for real GPUs"
        )
    return bool(value)


def _cudnn_choice() -> str:
    return os.environ.get(CUDNN) or "legacy"


@dataclass(frozen=True)
class GpuSettings:
    """One process's GPU, and how it computes.

    Attributes:
        device: number of the GPU, from 0.
        precision: "fp32", "tf32", "bf16" or "fp16"; see `PRECISIONS`.
        deterministic: only kernels whose result is the same in every run.
        emulated: on the processor; by default what the environment says.
        cuda_graph: record steps of a fixed shape and replay them.
        channels_last: how activations of 4 and 5 axes are stored; None takes what is
            faster for the GPU and the precision.
        cudnn: "legacy" or "graph" interface for convolutions, or "off".

    Raises:
        UsageError: no such precision, or a negative device.
    """

    device: int = 0
    precision: str = "fp32"
    deterministic: bool = False
    emulated: bool = field(default_factory=is_emulated)
    cuda_graph: bool = True
    channels_last: bool | None = None
    cudnn: str = field(default_factory=_cudnn_choice)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UsageError(f"precision {self.precision!r}; expected one of {known}")
        if self.cudnn not in {"legacy", "graph", "off"}:
            raise UsageError(
                f"environment variable {CUDNN} is {self.cudnn!r}; expected 'legacy', "
                "'graph' or 'off'"
            )
        if self.device < 0:
            raise UsageError(f"GPU {self.device}; GPUs are numbered from 0")
