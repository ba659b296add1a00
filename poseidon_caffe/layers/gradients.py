"""Where parameter gradients are written: overwritten first, then added to."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.types import Array

__all__ = ["param_gradients"]


def param_gradients(
    blobs: Sequence[Blob], wanted: Sequence[bool]
) -> tuple[list[Array | None], bool]:
    """Diff arrays of the wanted parameters, and whether a kernel must add to them.

    Args:
        blobs: the parameters that one kernel call computes gradients for.
        wanted: which of them want a gradient.

    Returns:
        One array (None if not wanted) per blob, and one ``accumulate`` for all.
    """
    targets = [
        blob.gradient_target() if want else None
        for blob, want in zip(blobs, wanted, strict=True)
    ]
    accumulate = any(target is not None and target[1] for target in targets)
    for blob, target in zip(blobs, targets, strict=True):
        if accumulate and target is not None and not target[1]:
            blob.memory.clear(target[0])
    return [None if target is None else target[0] for target in targets], accumulate
