"""Reduction: one number from all trailing axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["Reduction"]


_SUM, _ASUM, _SUMSQ, _MEAN = range(1, 5)
_BLOCK_COUNT = 1 << 16
_THREAD_COUNT = 1 << 19  # elements that are worth another thread


@register("Reduction")
class Reduction(Layer):
    """coeff times the SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN from ``axis`` on.

    Bottoms: one of any shape.  Tops: the axes before ``axis`` (a scalar for axis 0).

    Caffe parity: exact.
    """

    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Drop the trailing axes."""
        axis = bottom[0].canonical_axis(self.param.reduction_param.axis)
        top[0].reshape(bottom[0].shape[:axis])

    def _coeff(self, bottom: Blob) -> float:
        p = self.param.reduction_param
        axis = bottom.canonical_axis(p.axis)
        parts = math.prod(bottom.shape[axis:]) if p.operation == _MEAN else 1
        return float(p.coeff) / max(parts, 1)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum what is to be summed."""
        p, x, y = self.param.reduction_param, bottom[0].data, top[0].data
        axis = len(top[0].shape)
        rows = _rows(x, axis)
        sums = np.empty(len(rows), x.dtype)
        # Two threads read about as fast as memory gives.
        half = len(rows) // 2 if rows.size >= _THREAD_COUNT else 0
        work = [
            partial(_sum_rows, rows[part], p.operation, sums[part])
            for part in (slice(half), slice(half, None))
        ]
        self.ops.parallel(work if half else work[1:])
        sums *= x.dtype.type(self._coeff(bottom[0]))
        y[...] = sums.reshape(y.shape)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Spread dy, times the sign of x or 2 x where that was summed."""
        if not propagate_down[0]:
            return
        operation = self.param.reduction_param.operation
        x, dx = bottom[0].data, bottom[0].diff
        axis = len(top[0].shape)
        dy = top[0].diff.reshape(top[0].shape + (1,) * (x.ndim - axis))
        coeff = self._coeff(bottom[0]) * (2 if operation == _SUMSQ else 1)
        dy = dy * x.dtype.type(coeff)
        if operation == _SUMSQ:
            np.multiply(x, dy, out=dx)
        elif operation == _ASUM:
            np.sign(x, out=dx)
            dx *= dy
        else:
            dx[...] = dy

    @classmethod
    def examples(cls) -> list[Example]:
        """Every operation over some and all axes."""

        def reduction(text: str) -> Example:
            return Example(f"reduction_param {{ {text} }}", kink=0.05)

        return [
            reduction("operation: SUM"),
            reduction("operation: SUM axis: 1 coeff: 1.5"),
            reduction("operation: ASUM axis: 1 coeff: 1.5"),
            reduction("operation: SUMSQ axis: 2 coeff: 1.5"),
            reduction("operation: MEAN axis: -1 coeff: 1.5"),
        ]


def _sum_rows(rows: Array, operation: int, sums: Array) -> None:
    """Sums of the elements, their magnitudes or squares."""
    # A few rows at a time: what is made of them stays in the cache.
    step = max(1, _BLOCK_COUNT // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        if operation == _ASUM:
            part = np.abs(part)
        elif operation == _SUMSQ:
            part = np.square(part)
        part.sum(axis=1, out=sums[start : start + step])


def _rows(x: Array, axis: int) -> Array:
    """A matrix whose rows hold what is summed up, in any order."""
    count, length = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    if axis <= 1 < x.ndim - 1 and not x.flags.c_contiguous:
        # Channels-last memory: the order within a sample does not matter.
        x = np.moveaxis(x, 1, -1)
    return x.reshape(count, length)
