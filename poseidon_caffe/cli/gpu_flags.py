"""The flags about GPUs, and what they ask for; loads nothing heavy."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Arguments, Flag
from poseidon_caffe.errors import UsageError

__all__ = ["ALL", "GPU", "GPU_FLAGS", "NUMERIC_FLAGS", "asked_gpus"]

ALL: Final = "all"
_GROUP: Final = "GPU"

GPU: Final = Flag(
    "gpu",
    "",
    "GPUs to compute on, or 'all'; without it the CPU computes. 'train' starts a rank "
    "for each, and each takes the whole batch_size; the others use the first",
    value="0,1|all",
    group=_GROUP,
)

NUMERIC_FLAGS: Final = (
    Flag(
        "precision",
        "fp32",
        "of a GPU's work; tf32: fast products of float32; bf16 and fp16: activations "
        "in 16 bits, weights in float32 (fp16 with loss scaling)",
        choices=("fp32", "tf32", "bf16", "fp16"),
        group=_GROUP,
    ),
    Flag(
        "deterministic",
        False,
        "on a GPU, only kernels that give the same result in every run",
        group=_GROUP,
    ),
    Flag(
        "cuda_graph",
        True,
        "on a GPU, start every kernel by itself, not whole steps as CUDA graphs",
        group=_GROUP,
    ),
)
"""How a GPU computes."""

GPU_FLAGS: Final = (GPU, *NUMERIC_FLAGS)
"""Which GPUs, and how they compute."""


def asked_gpus(args: Arguments) -> tuple[int, ...] | None:
    """The numbers in ``--gpu``; () without the flag, None for all GPUs.

    Raises:
        UsageError: it is neither numbers nor ``all``.
    """
    text = args.text("gpu").strip()
    if text == ALL:
        return None
    items = [item.strip() for item in text.split(",")] if text else []
    if not all(item.isascii() and item.isdigit() for item in items):
        raise UsageError(
            f"--gpu: expected numbers such as 0 or 0,1, or all, received '{text}'"
        )
    return tuple(map(int, items))
