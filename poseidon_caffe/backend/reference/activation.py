"""Elementwise non-linearities."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceActivation", "rectify"]


def _per_channel(slope: Array, ndim: int) -> Array:
    """Slopes of shape (C,) or (1,) so that they broadcast along axis 1."""
    return slope.reshape((1, -1) + (1,) * (ndim - 2)) if ndim > 1 else slope


def rectify(x: Array, y: Array, slope: float) -> None:
    """y = max(x, 0) + slope * min(x, 0); y may be x."""
    if slope == 0.0:
        np.maximum(x, 0, out=y)
        return
    low = np.minimum(x, 0)
    low *= slope
    np.maximum(x, 0, out=y)
    y += low


class ReferenceActivation:
    """`ActivationOps` in NumPy; arrays may have any strides, in place allowed."""

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""
        rectify(x, y, slope)

    def relu_backward(
        self,
        y: Array,
        dy: Array,
        dx: Array,
        slope: float = 0.0,
        also: Array | None = None,
    ) -> None:
        """dx (and ``also``) = dy where y > 0, slope * dy elsewhere."""
        if slope == 0.0:
            np.multiply(dy, y > 0, out=dx)
        else:
            factor = np.where(y > 0, dy.dtype.type(1), dy.dtype.type(slope))
            np.multiply(dy, factor, out=dx)
        if also is not None:
            also[...] = dx

    def relu_backward_sums(
        self, y: Array, dy: Array, dx: Array, slope: float, sums: Array, *,
        accumulate: bool = False,
    ) -> None:  # fmt: skip
        """dx = what a ReLU passes of dy; sums (C,) (+)= dx over all axes but 1."""
        self.relu_backward(y, dy, dx, slope)
        outer = tuple(i for i in range(dx.ndim) if i != 1)
        total = dx.sum(axis=outer, dtype=np.float64)
        sums[...] = sums + total if accumulate else total

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x)); exp of -|x| only, which cannot overflow."""
        with np.errstate(under="ignore"):
            small = np.exp(-np.abs(x))
            top = np.where(x >= 0, x.dtype.type(1), small)
            small += 1
            np.divide(top, small, out=y)

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""
        slope = 1 - y
        slope *= y
        np.multiply(dy, slope, out=dx)

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""
        np.tanh(x, out=y)

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""
        slope = 1 - y * y
        np.multiply(dy, slope, out=dx)

    def prelu(self, x: Array, slope: Array, y: Array) -> None:
        """y = x where x > 0, else slope[c] * x; slope has shape (C,) or (1,)."""
        low = np.minimum(x, 0)
        low *= _per_channel(slope, x.ndim)
        np.maximum(x, 0, out=y)
        y += low

    def prelu_backward(
        self, x: Array, slope: Array, dy: Array, dx: Array | None, dslope: Array | None
    ) -> None:
        """dx, and dslope (accumulated: += ), each when given."""
        low = x <= 0
        if dslope is not None:
            product = dy * x
            product *= low
            if slope.size == 1 or x.ndim == 1:
                dslope += product.sum(dtype=np.float64).astype(dslope.dtype)
            else:
                axes = tuple(i for i in range(x.ndim) if i != 1)
                dslope += product.sum(axis=axes, dtype=np.float64).astype(dslope.dtype)
        if dx is not None:
            factor = np.where(low, _per_channel(slope, x.ndim), dy.dtype.type(1))
            np.multiply(dy, factor, out=dx)

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None:
        """y = x * mask * scale; mask is uint8 0/1 of x's shape."""
        np.multiply(x, mask, out=y)
        y *= scale

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power, NaN and infinity where C's powf has them.

        With power * scale = 0 the result is a constant and x is not looked at,
        as in Caffe.
        """
        if power * scale == 0.0:
            y[...] = _power_of(np.asarray(shift, x.dtype), power)
            return
        np.multiply(x, scale, out=y)
        y += shift
        if power != 1.0:
            y[...] = _power_of(y, power)

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1).

        ``y`` is not needed here (x may have been 0, where y / x has no value).
        """
        del y
        if power * scale == 0.0:
            dx[...] = 0
            return
        if power == 1.0:
            np.multiply(dy, scale, out=dx)
            return
        slope = x * x.dtype.type(scale)
        slope += shift
        slope = _power_of(slope, power - 1)
        slope *= power * scale
        np.multiply(dy, slope, out=dx)


def _power_of(base: Array, power: float) -> Array:
    """base ** power, a new array; squares and such without pow, errors silent."""
    with np.errstate(all="ignore"):
        if power == 0.0:
            return np.ones_like(base)
        if power == 1.0:
            return base.copy()
        if power == 2.0:  # noqa: PLR2004
            return np.asarray(base * base)
        if power == 3.0:  # noqa: PLR2004
            return np.asarray(base * base * base)
        return np.asarray(np.power(base, base.dtype.type(power)))
