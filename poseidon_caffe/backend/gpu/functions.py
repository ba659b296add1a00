"""Elementwise functions of one array, and their gradients."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.maps import GpuMaps
from poseidon_caffe.types import Array

__all__ = ["GpuFunctions"]


class GpuFunctions(GpuMaps):
    """`FunctionOps` on a GPU: arrays of any strides, in place allowed."""

    def absolute(self, x: Array, y: Array) -> None:
        """y = |x|."""
        self._function("absolute", [x], y)

    def absolute_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy sign(x), 0 where x is 0."""
        self._function("absolute_backward", [x, dy], dx)

    def bnll(self, x: Array, y: Array) -> None:
        """y = log(1 + exp(x)), without overflow."""
        self._function("bnll", [x], y)

    def bnll_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy / (1 + exp(-x))."""
        self._function("bnll_backward", [x, dy], dx)

    def clip(self, x: Array, y: Array, low: float, high: float) -> None:
        """y = x, but at least ``low`` and at most ``high``."""
        self._function("clip", [x], y, low, high)

    def clip_backward(
        self, x: Array, dy: Array, dx: Array, low: float, high: float
    ) -> None:
        """dx = dy where low <= x <= high, else 0."""
        self._function("clip_backward", [x, dy], dx, low, high)

    def elu(self, x: Array, y: Array, alpha: float) -> None:
        """y = x where x > 0, alpha (exp(x) - 1) elsewhere."""
        self._function("elu", [x], y, alpha)

    def elu_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, alpha: float
    ) -> None:
        """dx = dy where x > 0, (y + alpha) dy elsewhere."""
        self._function("elu_backward", [x, y, dy], dx, alpha)

    def exponential(self, x: Array, y: Array, inner: float, outer: float) -> None:
        """y = outer exp(inner x)."""
        self._function("exponential", [x], y, inner, outer)

    def exponential_backward(
        self, y: Array, dy: Array, dx: Array, inner: float
    ) -> None:
        """dx = dy y inner."""
        self._function("exponential_backward", [y, dy], dx, inner)

    def logarithm(
        self, x: Array, y: Array, scale: float, shift: float, factor: float
    ) -> None:
        """y = factor log(scale x + shift)."""
        self._function("logarithm", [x], y, scale, shift, factor)

    def logarithm_backward(
        self, x: Array, dy: Array, dx: Array, scale: float, shift: float, factor: float
    ) -> None:
        """dx = dy factor scale / (scale x + shift)."""
        self._function("logarithm_backward", [x, dy], dx, scale, shift, factor)

    def swish(self, x: Array, y: Array, beta: float) -> None:
        """y = x / (1 + exp(-beta x))."""
        self._function("swish", [x], y, beta)

    def swish_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, beta: float
    ) -> None:
        """dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x))."""
        self._function("swish_backward", [x, y, dy], dx, beta)

    def threshold(self, x: Array, y: Array, threshold: float) -> None:
        """y = 1 where x > threshold, else 0."""
        self._function("step_above", [x], y, threshold)

    def _function(
        self, kernel: str, reads: list[Array], y: Array, *numbers: float
    ) -> None:
        self.map("functions", kernel, reads, y, *map(float, numbers))
