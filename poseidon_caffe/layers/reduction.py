"""Reduction: one number from all trailing axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array

__all__ = ["Reduction"]


_SUM, _ASUM, _SUMSQ, _MEAN = range(1, 5)


@register("Reduction")
class Reduction(Layer):
    """coeff times the SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN from ``axis`` on.

    Bottoms: one of any shape.  Tops: the axes before ``axis`` (a scalar for axis 0).

    Caffe parity: exact.
    """

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
        p, x = self.param.reduction_param, bottom[0].data
        axes = tuple(range(bottom[0].canonical_axis(p.axis), x.ndim))
        if p.operation == _ASUM:
            x = np.abs(x)
        elif p.operation == _SUMSQ:
            x = np.square(x)
        top[0].data[...] = x.sum(axis=axes) * x.dtype.type(self._coeff(bottom[0]))

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Spread dy, times the sign of x or 2 x where that was summed."""
        if not propagate_down[0]:
            return
        x, dx = bottom[0].data, bottom[0].diff
        axis = len(top[0].shape)
        dy = top[0].diff.reshape(top[0].shape + (1,) * (x.ndim - axis))
        np.multiply(dy, self._slope(x), out=dx)
        coeff = self._coeff(bottom[0])
        if coeff != 1.0:
            self.ops.add([dx], dx, [coeff])

    def _slope(self, x: Array) -> Array:
        """Derivative of the summand."""
        operation = self.param.reduction_param.operation
        if operation == _ASUM:
            return np.asarray(np.sign(x))
        return 2 * x if operation == _SUMSQ else np.ones((1,) * x.ndim, x.dtype)

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
