"""A bias and a ReLU added to what a product has made, in one pass."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.maps import GpuMaps
from poseidon_caffe.backend.gpu.spread import spread_over
from poseidon_caffe.types import Array

__all__ = ["GpuBias"]


class GpuBias(GpuMaps):
    """What inner products and convolutions end with."""

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
