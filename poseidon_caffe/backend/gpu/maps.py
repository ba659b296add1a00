"""Elementwise passes over arrays of any layout."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.gpu.device import Argument
from poseidon_caffe.backend.gpu.params import GpuParams
from poseidon_caffe.backend.gpu.spread import Spread
from poseidon_caffe.types import Array

__all__ = ["PACK_BYTES", "GpuMaps", "pack_count"]

PACK_BYTES = 16
"""What a thread of an elementwise pass loads at once."""


def pack_count(array: Array) -> int:
    """How many packs of 16 bytes an array has: the threads of an elementwise pass."""
    return -(-array.nbytes // PACK_BYTES)


class GpuMaps(GpuParams):
    """Base of the families whose kernels look at every element by itself."""

    def map(
        self,
        source: str,
        kernel: str,
        reads: Sequence[Array],
        y: Array,
        *numbers: float,
    ) -> None:
        """Run a kernel (reads..., y, numbers..., count) over arrays of any layout."""
        if y.size == 0:
            return
        with self.alike(reads, [y]) as (ins, outs):
            self.kernels(source).each(
                kernel, y.dtype, pack_count(y), *ins, *outs, *numbers, y.size
            )

    def each_spread(
        self, kernel: str, spread: Spread, y: Array, *arguments: Argument
    ) -> None:
        """Run a kernel of ``spread.cu`` over flat arrays in the spread's order."""
        (_, b, c), steps = spread.lengths, spread.steps
        self.kernels("spread").each(
            kernel, y.dtype, pack_count(y), *arguments, b, c, *steps, y.size
        )
