"""Reduction: one number from all trailing axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import ReduceKind
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register

__all__ = ["Reduction"]


_SUM, _ASUM, _SUMSQ, _MEAN = range(1, 5)
_KINDS: dict[int, ReduceKind] = {_ASUM: "asum", _SUMSQ: "sumsq"}


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

    def _kind(self) -> ReduceKind:
        """What is added up."""
        return _KINDS.get(self.param.reduction_param.operation, "sum")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum what is to be summed."""
        x, y = bottom[0].data, top[0].data
        axis, kind = len(top[0].shape), self._kind()
        self.ops.reduce_tail(x, axis, kind, self._coeff(bottom[0]), y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Spread dy, times the sign of x or 2 x where that was summed."""
        if not propagate_down[0]:
            return
        x, dy, dx = bottom[0].data, top[0].diff, bottom[0].diff
        axis, kind = len(top[0].shape), self._kind()
        self.ops.reduce_tail_backward(x, dy, axis, kind, self._coeff(bottom[0]), dx)

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
