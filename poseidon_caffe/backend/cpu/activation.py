"""Non-linearities on oneDNN: arrays laid out alike run as one flat vector."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.chain import DnnlChain, each, of, one
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.eltwise import DnnlEltwise
from poseidon_caffe.backend.cpu.layout import alike, flat_together
from poseidon_caffe.backend.cpu.prelu import DnnlPrelu
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuActivation"]

_ONE = np.ones(1, np.float32)
_CUBE = 3.0


class CpuActivation(DnnlEltwise, DnnlChain, DnnlPrelu):
    """`ActivationOps` with the common ones on oneDNN."""

    _pool: ThreadPool

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""
        if alike(x, y):
            self._eltwise(x.size, Alg.RELU, slope)(x, y)
        else:
            super().relu(x, y, slope)

    def relu_backward(
        self,
        y: Array,
        dy: Array,
        dx: Array,
        slope: float = 0.0,
        also: Array | None = None,
    ) -> None:
        """dx (and ``also``) = dy where y > 0, slope * dy elsewhere."""
        if slope >= 0 and alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.RELU_DST, slope)(y, dy, dx)
            if also is not None:
                also[...] = dx
        else:
            super().relu_backward(y, dy, dx, slope, also)

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
        flat = flat_together(x, mask, y) if x.size and alike(x, y) else None
        if flat is None or mask.dtype != np.uint8:
            super().dropout(x, mask, scale, y)
            return
        run = self._chain(x.size, each(Alg.MUL, "uint8"), one(Alg.MUL))
        run(flat[0], flat[1], np.array([scale], np.float32), flat[2])

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power."""
        if not scale or power not in {1.0, 2.0} or not alike(x, y):
            in_blocks(self._pool, super().power, (x, y), power, scale, shift)
        elif power == 1.0:
            self._eltwise(x.size, Alg.LINEAR, scale, shift)(x, y)
        else:
            steps = (one(Alg.MUL), of(Alg.LINEAR, scale, shift), of(Alg.SQUARE))
            self._chain(x.size, *steps)(x, _ONE, y)

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1)."""
        if not scale or power not in {1.0, 2.0, 3.0} or not alike(x, dy, dx):
            run = super().power_backward
            in_blocks(self._pool, run, (x, y, dy, dx), power, scale, shift)
            return
        factor = np.array([power * scale], np.float32)
        if power == 1.0:
            self._chain(x.size, one(Alg.MUL))(dy, factor, dx)
            return
        slope = [of(Alg.LINEAR, scale, shift)]
        if power == _CUBE:
            slope.append(of(Alg.SQUARE))
        steps = (one(Alg.MUL), *slope, one(Alg.MUL), each(Alg.MUL))
        self._chain(x.size, *steps)(x, _ONE, factor, dy, dx)
