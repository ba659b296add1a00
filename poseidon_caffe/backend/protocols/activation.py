"""Elementwise non-linearities."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["ActivationOps"]


class ActivationOps(Protocol):
    """Elementwise non-linearities.  In place allowed for all (y is x, dx is dy)."""

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""

    def relu_backward(
        self,
        y: Array,
        dy: Array,
        dx: Array,
        slope: float = 0.0,
        also: Array | None = None,
    ) -> None:
        """dx = dy where y > 0, slope * dy elsewhere (y or x alike for slope >= 0).

        ``also`` becomes the same as dx; it is none of the other arrays.
        """

    def relu_backward_sums(
        self, y: Array, dy: Array, dx: Array, slope: float, sums: Array, *,
        accumulate: bool = False,
    ) -> None:  # fmt: skip
        """`relu_backward`, and sums (+)= dx added up over all axes but 1.

        Args:
            y: (N, C, ...), the ReLU's top.
            dy: of y's shape, its gradient.
            dx: of y's shape; it may be dy.
            slope: of negative values.
            sums: (C,), a bias' gradient.
            accumulate: whether to add to what ``sums`` holds.
        """

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x)), without overflow."""

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""

    def prelu(self, x: Array, slope: Array, y: Array) -> None:
        """y = x where x > 0, else slope[c] * x; slope has shape (C,) or (1,)."""

    def prelu_backward(
        self, x: Array, slope: Array, dy: Array, dx: Array | None, dslope: Array | None
    ) -> None:
        """dx, and dslope (accumulated: += ), each when given."""

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None:
        """y = x * mask * scale; mask is uint8 0/1 of x's shape."""

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power."""

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1)."""
