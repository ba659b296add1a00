"""What convolutions do besides products and columns: bias, ReLU, and sums."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.columns import GpuColumns
from poseidon_caffe.backend.gpu.image_planes import ImagePlanes
from poseidon_caffe.types import Array

__all__ = ["ConvolutionParts", "splits_for"]

_MOST_SPLITS = 32
_ENOUGH_BLOCKS = 264  # two for each processor of an H100
_THREADS = 256


class ConvolutionParts(GpuColumns):
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
        top = ImagePlanes.of(y)
        if top is None:
            twin = self.scratch.take("planes bias", y.shape, y.dtype)
            self.copy(y, twin)
            self.add_bias(twin, b, slope)
            self.copy(twin, y)
            return
        self.kernels("convolution").each(
            "bias_relu", y.dtype, y.size, top.array, b, slope is not None,
            float(slope or 0.0), y.size, top.channels, top.places, top.channels_last,
            *top.steps,
        )  # fmt: skip

    def bias_gradient(self, dy: Array, db: Array, *, accumulate: bool) -> None:
        """db (+)= dy summed over all axes but 1, in a fixed order."""
        top = self.image_planes("bias", dy)
        lanes = 32 if top.channels_last else 1
        tiles = -(-top.channels // lanes)
        splits = splits_for(tiles, top.images * top.places * lanes)
        direct = splits == 1
        sums = db
        if not direct:
            sums = self.scratch.take("conv splits", (splits, top.channels), db.dtype)
        self.kernels("convolution").blocks(
            "channel_sums", dy.dtype, tiles * splits, top.array, sums, top.images,
            top.channels, top.places, *top.steps, lanes, splits, accumulate and direct,
        )  # fmt: skip
        if not direct:
            self.add_splits(sums, db, dy.dtype, splits, accumulate=accumulate)

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
    useful = max(1, count // (8 * _THREADS))
    return max(1, min(_MOST_SPLITS, useful, -(-_ENOUGH_BLOCKS // max(blocks, 1))))
