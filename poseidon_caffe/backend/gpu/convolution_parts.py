"""What convolutions do besides products and columns: bias, ReLU, sums, shares."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.bias import GpuBias
from poseidon_caffe.backend.gpu.columns import GpuColumns
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.sums import GpuSums
from poseidon_caffe.types import Array

__all__ = ["ConvolutionParts", "splits_for"]

_MOST_SPLITS = 32
_ENOUGH_BLOCKS = 264  # two for each processor of an H100


class ConvolutionParts(GpuSums, GpuBias, GpuColumns):
    """What convolutions do besides products and columns."""

    def bias_gradient(self, dy: Array, db: Array, *, accumulate: bool) -> None:
        """db (+)= dy summed over all axes but 1, in a fixed order."""
        self.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    def add_splits(
        self, partial: Array, sums: Array, dtype: np.dtype, splits: int, *,
        accumulate: bool,
    ) -> None:  # fmt: skip
        """sums (+)= partial added up over its first axis, in order."""
        self.kernels("convolution").each(
            "add_splits", dtype, sums.size, partial, sums, sums.size, splits, accumulate
        )


def splits_for(blocks: int, count: int) -> int:
    """Into how many shares to cut sums of ``count`` elements done by ``blocks``."""
    useful = max(1, count // (8 * THREADS))
    return max(1, min(_MOST_SPLITS, useful, -(-_ENOUGH_BLOCKS // max(blocks, 1))))
