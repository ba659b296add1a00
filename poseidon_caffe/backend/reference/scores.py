"""How often labels are among the best scores, in NumPy."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import Sums
from poseidon_caffe.types import Array

__all__ = ["ReferenceScores"]


class ReferenceScores:
    """`ScoreOps` for arrays of any strides."""

    def count_hits(
        self, scores: Array, label: Array, axis: int, top_k: int,
        ignore_label: int | None, sums: Sums, by_class: Array | None = None,
    ) -> None:  # fmt: skip
        """sums = labels that at most ``top_k`` classes score as much as, and all."""
        moved = np.moveaxis(scores, axis, -1)
        classes = moved.shape[-1]
        flat, wanted = moved.reshape(-1, classes), label.reshape(-1).astype(np.int64)
        if ignore_label is not None:
            counted = wanted != ignore_label
            flat, wanted = flat[counted], wanted[counted]
        own = np.take_along_axis(flat, wanted[:, None], axis=1)
        # The label itself is among those that score at least as much.
        right = (flat >= own).sum(axis=1) <= top_k
        sums[...] = float(right.sum()), len(wanted)
        if by_class is not None:
            seen = np.bincount(wanted, minlength=classes)
            hits = np.bincount(wanted[right], minlength=classes)
            by_class[...] = hits / np.maximum(seen, 1)
