"""Elementwise functions of one array, and their gradients."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["FunctionOps"]


class FunctionOps(Protocol):
    """Functions of every element.  In place allowed (y is x, dx is dy)."""

    def absolute(self, x: Array, y: Array) -> None:
        """y = |x|."""

    def absolute_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy sign(x), 0 where x is 0."""

    def bnll(self, x: Array, y: Array) -> None:
        """y = log(1 + exp(x)), without overflow."""

    def bnll_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy / (1 + exp(-x))."""

    def clip(self, x: Array, y: Array, low: float, high: float) -> None:
        """y = x, but at least ``low`` and at most ``high``."""

    def clip_backward(
        self, x: Array, dy: Array, dx: Array, low: float, high: float
    ) -> None:
        """dx = dy where low <= x <= high, else 0."""

    def elu(self, x: Array, y: Array, alpha: float) -> None:
        """y = x where x > 0, alpha (exp(x) - 1) elsewhere."""

    def elu_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, alpha: float
    ) -> None:
        """dx = dy where x > 0, (y + alpha) dy elsewhere.

        With alpha >= 0 y may stand for x.
        """

    def exponential(self, x: Array, y: Array, inner: float, outer: float) -> None:
        """y = outer exp(inner x)."""

    def exponential_backward(
        self, y: Array, dy: Array, dx: Array, inner: float
    ) -> None:
        """dx = dy y inner."""

    def logarithm(
        self, x: Array, y: Array, scale: float, shift: float, factor: float
    ) -> None:
        """y = factor log(scale x + shift); NaN and infinity without a warning."""

    def logarithm_backward(
        self, x: Array, dy: Array, dx: Array, scale: float, shift: float, factor: float
    ) -> None:
        """dx = dy factor scale / (scale x + shift)."""

    def swish(self, x: Array, y: Array, beta: float) -> None:
        """y = x / (1 + exp(-beta x))."""

    def swish_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, beta: float
    ) -> None:
        """dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x))."""

    def threshold(self, x: Array, y: Array, threshold: float) -> None:
        """y = 1 where x > threshold, else 0."""
