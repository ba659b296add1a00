"""Elementwise functions of one array, and their gradients."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceFunctions"]


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) in a new array: by tanh, which cannot overflow."""
    y: Array = np.asarray(x * x.dtype.type(0.5))
    np.tanh(y, out=y)
    y *= x.dtype.type(0.5)
    y += x.dtype.type(0.5)
    return y


class ReferenceFunctions:
    """`FunctionOps` in NumPy; arrays may have any strides, in place allowed."""

    def absolute(self, x: Array, y: Array) -> None:
        """y = |x|."""
        np.abs(x, out=y)

    def absolute_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy sign(x), 0 where x is 0."""
        np.multiply(dy, np.sign(x), out=dx)

    def bnll(self, x: Array, y: Array) -> None:
        """y = log(1 + exp(x)), by exp of -|x| only."""
        with np.errstate(under="ignore"):
            tail = np.asarray(np.abs(x))  # a scalar blob gives a number
            np.negative(tail, out=tail)
            np.exp(tail, out=tail)
            np.log1p(tail, out=tail)
        np.maximum(x, 0, out=y)
        y += tail

    def bnll_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy / (1 + exp(-x))."""
        np.multiply(_sigmoid(x), dy, out=dx)

    def clip(self, x: Array, y: Array, low: float, high: float) -> None:
        """y = x, but at least ``low`` and at most ``high``."""
        np.clip(x, x.dtype.type(low), x.dtype.type(high), out=y)

    def clip_backward(
        self, x: Array, dy: Array, dx: Array, low: float, high: float
    ) -> None:
        """dx = dy where low <= x <= high, else 0."""
        inside = x >= x.dtype.type(low)
        inside &= x <= x.dtype.type(high)
        np.multiply(dy, inside, out=dx)

    def elu(self, x: Array, y: Array, alpha: float) -> None:
        """y = x where x > 0, alpha (exp(x) - 1) elsewhere."""
        low = np.asarray(np.minimum(x, 0))  # a scalar blob gives a number
        with np.errstate(under="ignore"):
            np.expm1(low, out=low)
        low *= x.dtype.type(alpha)
        np.maximum(x, 0, out=y)
        y += low

    def elu_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, alpha: float
    ) -> None:
        """dx = dy where x > 0, (y + alpha) dy elsewhere."""
        one = y.dtype.type(1)
        slope = np.where(x > 0, one, y + y.dtype.type(alpha))
        np.multiply(dy, slope, out=dx)

    def exponential(self, x: Array, y: Array, inner: float, outer: float) -> None:
        """y = outer exp(inner x)."""
        np.multiply(x, x.dtype.type(inner), out=y)
        np.exp(y, out=y)
        if outer != 1.0:
            y *= y.dtype.type(outer)

    def exponential_backward(
        self, y: Array, dy: Array, dx: Array, inner: float
    ) -> None:
        """dx = dy y inner."""
        np.multiply(dy, y, out=dx)
        if inner != 1.0:
            dx *= dx.dtype.type(inner)

    def logarithm(
        self, x: Array, y: Array, scale: float, shift: float, factor: float
    ) -> None:
        """y = factor log(scale x + shift); NaN and infinity without a warning."""
        _affine(x, y, scale, shift)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.log(y, out=y)
        if factor != 1.0:
            y *= y.dtype.type(factor)

    def logarithm_backward(
        self, x: Array, dy: Array, dx: Array, scale: float, shift: float, factor: float
    ) -> None:
        """dx = dy factor scale / (scale x + shift)."""
        inner = np.empty_like(x)
        _affine(x, inner, scale, shift)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(dy, inner, out=dx)
        if factor * scale != 1.0:
            dx *= dx.dtype.type(factor * scale)

    def swish(self, x: Array, y: Array, beta: float) -> None:
        """y = x / (1 + exp(-beta x))."""
        scaled = x if beta == 1.0 else x * x.dtype.type(beta)
        np.multiply(_sigmoid(scaled), x, out=y)

    def swish_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, beta: float
    ) -> None:
        """dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x))."""
        factor = x.dtype.type(beta)
        rise = y * factor
        slope = _sigmoid(x * factor)
        slope *= 1 - rise
        slope += rise
        np.multiply(dy, slope, out=dx)

    def threshold(self, x: Array, y: Array, threshold: float) -> None:
        """y = 1 where x > threshold, else 0."""
        np.copyto(y, x > x.dtype.type(threshold))


def _affine(x: Array, y: Array, scale: float, shift: float) -> None:
    """y = scale x + shift."""
    np.multiply(x, x.dtype.type(scale), out=y)
    if shift != 0.0:
        y += y.dtype.type(shift)
