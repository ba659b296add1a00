"""What convolutions do besides products and columns: bias, ReLU, and sums."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.columns import GpuColumns
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.maps import GpuMaps
from poseidon_caffe.backend.gpu.spread import spread_over
from poseidon_caffe.backend.gpu.sums import GpuSums
from poseidon_caffe.types import Array

__all__ = ["ConvolutionParts", "splits_for"]

_MOST_SPLITS = 32
_ENOUGH_BLOCKS = 264  # two for each processor of an H100


class ConvolutionParts(GpuSums, GpuMaps, GpuColumns):
    """What convolutions do besides products and columns."""

    def add_bias(self, y: Array, b: Array | None, slope: float | None) -> None:
        """y = relu?(y + b) in place.

        Args:
            y: (N, C, *spatial), any strides.
            b: (C,), or None for no bias.
            slope: of negative values; None for no ReLU.
        """
        if not y.size or (b is None and slope is None):
            return
        if b is None:
            self.map("activation", "relu", [y], y, float(slope or 0.0))
            return
        spread = spread_over([y], 1, b.shape)
        bias = self.plain_params(b, y.dtype, "bias")
        kernel = "shift_only" if slope is None else "shift_and_relu"
        numbers = () if slope is None else (float(slope),)
        with self.alike([y], [y], spread.order) as (ins, outs):
            self.each_spread(kernel, spread, y, *ins, bias, *outs, *numbers)

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
