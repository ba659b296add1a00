"""Exp and Log: powers of a base, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Exp", "Log"]


def _log_of_base(layer: Layer, base: float) -> float:
    """Natural logarithm of a base; -1 stands for e."""
    if base == -1:
        return 1.0
    if base <= 0:
        problem = f"base must be positive, or -1 for e, not {base:g}"
        raise LayerError(layer.describe(problem))
    return math.log(base)


@register("Exp")
class Exp(NeuronLayer):
    """y = base ** (shift + scale * x); base -1 (the default) is e.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact.
    """

    backward_reads_bottom = False

    def _factors(self) -> tuple[float, float]:
        """(inner, outer) of y = outer * exp(inner * x)."""
        p = self.param.exp_param
        log_base = _log_of_base(self, p.base)
        return log_base * p.scale, math.exp(log_base * p.shift)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the base."""
        self._factors()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Raise the base."""
        inner, outer = self._factors()
        self.ops.exponential(bottom[0].data, top[0].data, inner, outer)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy y scale log(base)."""
        if propagate_down[0]:
            y, dy, dx = top[0].data, top[0].diff, bottom[0].diff
            self.ops.exponential_backward(y, dy, dx, self._factors()[0])

    @classmethod
    def examples(cls) -> list[Example]:
        """e and another base."""
        return [
            Example(in_place=True),
            Example("exp_param { base: 2 scale: 0.5 shift: 0.25 }", in_place=True),
        ]


@register("Log")
class Log(NeuronLayer):
    """y = logarithm to ``base`` of (shift + scale * x); base -1 (the default) is e.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact out of place; in place Caffe's gradient is wrong, here it is
    right.
    """

    backward_reads_top = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the base."""
        if _log_of_base(self, self.param.log_param.base) == 0:
            raise LayerError(self.describe("base must not be 1"))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Take logarithms; in place keeps a copy of the input."""
        self.saved.save(bottom[0], top[0])
        p = self.param.log_param
        factor = 1 / _log_of_base(self, p.base)
        x, y = bottom[0].data, top[0].data
        self.ops.logarithm(x, y, p.scale, p.shift, factor)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy scale / log(base) / (shift + scale x)."""
        if propagate_down[0]:
            p = self.param.log_param
            x, factor = self.saved.data(bottom[0]), 1 / _log_of_base(self, p.base)
            dy, dx = top[0].diff, bottom[0].diff
            self.ops.logarithm_backward(x, dy, dx, p.scale, p.shift, factor)

    @classmethod
    def examples(cls) -> list[Example]:
        """e and another base."""
        other = "log_param { base: 2 scale: 3 shift: 1 }"
        return [
            Example(in_place=True, positive=True),
            Example(other, in_place=True, positive=True),
        ]
