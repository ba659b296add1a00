"""How cuDNN is to compute."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.constants import DataType, MathType, data_type

__all__ = ["CudnnSettings", "cache_folder"]

_MIB = 1 << 20


def cache_folder() -> Path:
    """``poseidon/cudnn`` in the user's cache folder (``XDG_CACHE_HOME``)."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "poseidon" / "cudnn"


@dataclass(frozen=True)
class CudnnSettings:
    """How cuDNN is to compute.

    Attributes:
        tf32: float32 data may be rounded to TF32 for tensor cores (Ampere, newer).
        deterministic: take only algorithms that give the same bits each time.
            Which one is fastest may be measured differently in another process:
            equal bits there want the same ``cache``, or no ``autotune``.
        workspace_limit: bytes of scratch memory that an algorithm may use.
        autotune: measure algorithms once per shape, else believe the heuristics.
        cache: folder in which choices are kept; None keeps them in memory only.
    """

    tf32: bool = False
    deterministic: bool = False
    workspace_limit: int = 1024 * _MIB
    autotune: bool = True
    cache: Path | None = None

    def math_type(self, dtype: np.dtype | type) -> MathType:
        """What convolutions of ``dtype`` data may compute with."""
        kind = data_type(dtype)
        if kind in {DataType.HALF, DataType.BFLOAT16}:
            return MathType.TENSOR_OP
        if kind is DataType.FLOAT and self.tf32:
            return MathType.DEFAULT
        return MathType.FMA if kind is DataType.FLOAT else MathType.DEFAULT

    def precision(self, dtype: np.dtype | type) -> str:
        """Name of the arithmetic on ``dtype`` data, for keys and reports."""
        kind = data_type(dtype)
        if kind is DataType.FLOAT:
            return "tf32" if self.tf32 else "fp32"
        return {
            DataType.DOUBLE: "fp64",
            DataType.HALF: "fp16",
            DataType.BFLOAT16: "bf16",
        }[kind]
