"""How often labels are among the best scores."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.classes import GpuClasses, ignoring
from poseidon_caffe.backend.protocols import Sums
from poseidon_caffe.types import Array

__all__ = ["GpuScores"]


class GpuScores(GpuClasses):
    """`ScoreOps` on a GPU; labels that are no class count for nothing."""

    def count_hits(
        self, scores: Array, label: Array, axis: int, top_k: int,
        ignore_label: int | None, sums: Sums, by_class: Array | None = None,
    ) -> None:  # fmt: skip
        """sums = labels that at most ``top_k`` classes score as much as, and all."""
        labels = self.plain_params(label, scores.dtype)
        classes = scores.shape[axis]
        hits = seen = None
        if by_class is not None:
            counts = self.scratch.take("hits", (2, classes), np.uint64)
            self.memory.clear(counts)
            hits, seen = counts[0], counts[1]
        with self.planes(axis, [scores], []) as planes:
            before = (planes.reads[0], labels, top_k, *ignoring(ignore_label))
            self.sum_classes("count_hits", planes, sums, before, (hits, seen))
        if by_class is not None:
            self.kernels("classes").each(
                "hit_shares", by_class.dtype, classes, hits, seen, by_class, classes
            )
