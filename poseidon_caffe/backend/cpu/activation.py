"""Non-linearities on oneDNN: arrays laid out alike run as one flat vector."""

from __future__ import annotations

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.eltwise import DnnlEltwise
from poseidon_caffe.backend.cpu.layout import alike
from poseidon_caffe.backend.cpu.prelu import DnnlPrelu
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuActivation"]


class CpuActivation(DnnlEltwise, DnnlPrelu):
    """`ActivationOps` with the common ones on oneDNN."""

    _pool: ThreadPool

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""
        if alike(x, y):
            self._eltwise(x.size, Alg.RELU, slope)(x, y)
        else:
            super().relu(x, y, slope)

    def relu_backward(self, y: Array, dy: Array, dx: Array, slope: float = 0.0) -> None:
        """dx = dy where y > 0, slope * dy elsewhere."""
        if slope >= 0 and alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.RELU_DST, slope)(y, dy, dx)
        else:
            super().relu_backward(y, dy, dx, slope)

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x))."""
        if alike(x, y):
            self._eltwise(x.size, Alg.LOGISTIC)(x, y)
        else:
            super().sigmoid(x, y)

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""
        if alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.LOGISTIC_DST)(y, dy, dx)
        else:
            super().sigmoid_backward(y, dy, dx)

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""
        if alike(x, y):
            self._eltwise(x.size, Alg.TANH)(x, y)
        else:
            super().tanh(x, y)

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""
        if alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.TANH_DST)(y, dy, dx)
        else:
            super().tanh_backward(y, dy, dx)

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None:
        """y = x * mask * scale; mask is uint8 0/1 of x's shape."""

        def run(x: Array, mask: Array, y: Array) -> None:
            super(CpuActivation, self).dropout(x, mask, scale, y)

        in_blocks(self._pool, run, (x, mask, y))

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power."""
        in_blocks(self._pool, super().power, (x, y), power, scale, shift)

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1)."""
        run = super().power_backward
        in_blocks(self._pool, run, (x, y, dy, dx), power, scale, shift)
