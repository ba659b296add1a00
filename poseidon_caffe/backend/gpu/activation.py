"""Elementwise non-linearities."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.maps import GpuMaps, pack_count
from poseidon_caffe.backend.gpu.spread import spread_over
from poseidon_caffe.backend.gpu.sums import GpuSums
from poseidon_caffe.types import Array

__all__ = ["GpuActivation"]


class GpuActivation(GpuSums, GpuMaps):
    """`ActivationOps` on a GPU: arrays of any strides, in place allowed."""

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""
        self.map("activation", "relu", [x], y, float(slope))

    def relu_backward(
        self,
        y: Array,
        dy: Array,
        dx: Array,
        slope: float = 0.0,
        also: Array | None = None,
    ) -> None:
        """dx (and ``also``) = dy where y > 0, slope * dy elsewhere."""
        if also is None:
            self.map("activation", "relu_backward", [y, dy], dx, float(slope))
        elif dx.size:
            with self.alike([y, dy], [dx, also]) as (ins, outs):
                self.kernels("activation").each(
                    "relu_backward_twice", dx.dtype, pack_count(dx), *ins, *outs,
                    float(slope), dx.size,
                )  # fmt: skip

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x)), without overflow."""
        self.map("activation", "sigmoid", [x], y)

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""
        self.map("activation", "sigmoid_backward", [y, dy], dx)

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""
        self.map("activation", "tanh_forward", [x], y)

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""
        self.map("activation", "tanh_backward", [y, dy], dx)

    def prelu(self, x: Array, slope: Array, y: Array) -> None:
        """y = x where x > 0, else slope[c] * x; slope has shape (C,) or (1,)."""
        self._prelu("prelu", slope, [x], y)

    def prelu_backward(
        self, x: Array, slope: Array, dy: Array, dx: Array | None, dslope: Array | None
    ) -> None:
        """dx, and dslope (accumulated: += ), each when given; dx, last, may be dy."""
        if dslope is not None:
            shape = () if dslope.size == 1 else (dslope.size,)
            self.sum_gated(dy, x, min(1, x.ndim - 1), shape, dslope)
        if dx is not None:
            self._prelu("prelu_backward", slope, [x, dy], dx)

    def _prelu(self, kernel: str, slope: Array, reads: list[Array], y: Array) -> None:
        if y.size == 0:
            return
        shape = () if slope.size == 1 else (slope.size,)
        spread = spread_over([y, *reads], min(1, y.ndim - 1), shape)
        slopes = self.plain_params(slope, y.dtype, "slope")
        with self.alike(reads, [y], spread.order) as (ins, outs):
            self.each_spread(kernel, spread, y, *ins, slopes, *outs)

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None:
        """y = x * mask * scale; mask is uint8 0/1 of x's shape."""
        self.map("activation", "dropout", [x, mask], y, float(scale))

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power; a constant does not look at x."""
        numbers = float(power), float(scale), float(shift)
        self.map("activation", "power_forward", [x], y, *numbers)

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1)."""
        del y
        numbers = float(power), float(scale), float(shift)
        self.map("activation", "power_backward", [x, dy], dx, *numbers)
