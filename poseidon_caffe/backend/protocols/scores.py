"""How often labels are among the best scores."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.protocols.loss_results import Sums
from poseidon_caffe.types import Array

__all__ = ["ScoreOps"]


class ScoreOps(Protocol):
    """Counts; labels are as those of `LabelLossOps`."""

    def count_hits(
        self, scores: Array, label: Array, axis: int, top_k: int,
        ignore_label: int | None, sums: Sums, by_class: Array | None = None,
    ) -> None:  # fmt: skip
        """sums = labels that at most ``top_k`` classes score as much as, and all.

        Args:
            scores: classes along ``axis``.
            label: as many as there are places besides the classes.
            axis: of the classes.
            top_k: so many, the label's own class among them.
            ignore_label: labels that do not count, or None.
            sums: is overwritten.
            by_class: (C,); gets each class's share of hits, 0 where none counts.
        """
