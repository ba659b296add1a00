"""Sums of losses that stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from poseidon_caffe.backend.gpu.launcher import ANY_STORAGE, THREADS, WARP
from poseidon_caffe.backend.gpu.planes import GpuPlanes
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["MOST_BLOCKS", "GpuLossResults"]

MOST_BLOCKS = 1024
"""Blocks that add up at most; one more adds up theirs."""

_ELEMENTS = 4 * THREADS  # elements that are worth a block
_SourceLaunch: TypeAlias = Callable[[int, Array], None]


class GpuLossResults(GpuPlanes):
    """`LossResultOps` on a GPU, and how its losses add up: always in one order."""

    def add_up(self, sums: Sums, blocks: int, launch: _SourceLaunch) -> None:
        """Let so many blocks write (total, places counted) each, then add those up.

        Args:
            sums: is overwritten; 0 for no blocks.
            blocks: at most `MOST_BLOCKS`.
            launch: runs the kernel, given the blocks and where they write.
        """
        if blocks == 0:
            self.memory.clear(sums)
        elif blocks == 1:
            launch(1, sums)
        else:
            parts = self.scratch.take("loss sums", (blocks, 2), np.float64)
            launch(blocks, parts)
            self.kernels("loss_results").blocks(
                "add_sums", ANY_STORAGE, 1, parts, blocks, sums
            )

    def add_up_each(self, sums: Sums, count: int, launch: _SourceLaunch) -> None:
        """`add_up` for kernels that loop over ``count`` elements."""
        self.add_up(sums, min(-(-count // _ELEMENTS), MOST_BLOCKS), launch)

    def write_mean(
        self, sums: Sums, divisor: float | None, top: Array, factor: float = 1.0
    ) -> None:
        """top = factor * total / divisor."""
        by = -1.0 if divisor is None else float(divisor)
        self.kernels("loss_results").blocks(
            "write_mean", top.dtype, 1, sums, by, float(factor), top, threads=WARP
        )

    def loss_weight(
        self, diff: Array, sums: Sums, divisor: float | None, weight: Weight,
        factor: float = 1.0,
    ) -> None:  # fmt: skip
        """weight = factor * diff / divisor."""
        by = -1.0 if divisor is None else float(divisor)
        self.kernels("loss_results").blocks(
            "loss_weight", diff.dtype, 1, diff, sums, by, float(factor), weight,
            threads=WARP,
        )  # fmt: skip
