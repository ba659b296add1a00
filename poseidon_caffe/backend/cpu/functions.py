"""Elementwise functions of one array: oneDNN's, or NumPy's in blocks."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.eltwise import DnnlEltwise
from poseidon_caffe.backend.cpu.layout import alike
from poseidon_caffe.backend.reference.functions import ReferenceFunctions
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuFunctions"]


class CpuFunctions(DnnlEltwise, ReferenceFunctions):
    """`FunctionOps` with oneDNN's primitives where it has the function."""

    _pool: ThreadPool

    def absolute(self, x: Array, y: Array) -> None:
        """y = |x|."""
        if alike(x, y):
            self._eltwise(x.size, Alg.ABS)(x, y)
        else:
            super().absolute(x, y)

    def absolute_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy sign(x), 0 where x is 0."""
        if alike(x, dy, dx):
            self._eltwise_backward(x.size, Alg.ABS)(x, dy, dx)
        else:
            super().absolute_backward(x, dy, dx)

    def bnll(self, x: Array, y: Array) -> None:
        """y = log(1 + exp(x)), without overflow."""
        if alike(x, y):
            self._eltwise(x.size, Alg.SOFT_RELU, 1.0)(x, y)
        else:
            super().bnll(x, y)

    def bnll_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy / (1 + exp(-x))."""
        if alike(x, dy, dx):
            self._eltwise_backward(x.size, Alg.SOFT_RELU, 1.0)(x, dy, dx)
        else:
            super().bnll_backward(x, dy, dx)

    def clip(self, x: Array, y: Array, low: float, high: float) -> None:
        """y = x, but at least ``low`` and at most ``high``."""
        if low <= high and alike(x, y):
            self._eltwise(x.size, Alg.CLIP, low, high)(x, y)
        else:
            super().clip(x, y, low, high)

    def clip_backward(
        self, x: Array, dy: Array, dx: Array, low: float, high: float
    ) -> None:
        """dx = dy where low <= x <= high, else 0."""
        if low <= high and alike(x, dy, dx):
            # The primitive passes low < x <= high.
            below = float(np.nextafter(np.float32(low), np.float32(-np.inf)))
            self._eltwise_backward(x.size, Alg.CLIP, below, high)(x, dy, dx)
        else:
            super().clip_backward(x, dy, dx, low, high)

    def elu(self, x: Array, y: Array, alpha: float) -> None:
        """y = x where x > 0, alpha (exp(x) - 1) elsewhere."""
        if alike(x, y):
            self._eltwise(x.size, Alg.ELU, alpha)(x, y)
        else:
            super().elu(x, y, alpha)

    def elu_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, alpha: float
    ) -> None:
        """dx = dy where x > 0, (y + alpha) dy elsewhere."""
        if not alike(x, y, dy, dx):
            super().elu_backward(x, y, dy, dx, alpha)
        elif alpha >= 0:
            self._eltwise_backward(x.size, Alg.ELU_DST, alpha)(y, dy, dx)
        else:
            self._eltwise_backward(x.size, Alg.ELU, alpha)(x, dy, dx)

    def exponential(self, x: Array, y: Array, inner: float, outer: float) -> None:
        """y = outer exp(inner x)."""
        if inner == outer == 1.0 and alike(x, y):
            self._eltwise(x.size, Alg.EXP)(x, y)
        else:
            in_blocks(self._pool, super().exponential, (x, y), inner, outer)

    def exponential_backward(
        self, y: Array, dy: Array, dx: Array, inner: float
    ) -> None:
        """dx = dy y inner."""
        if inner == 1.0 and alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.EXP_DST)(y, dy, dx)
        else:
            in_blocks(self._pool, super().exponential_backward, (y, dy, dx), inner)

    def logarithm(
        self, x: Array, y: Array, scale: float, shift: float, factor: float
    ) -> None:
        """y = factor log(scale x + shift)."""
        # NumPy's logarithm takes less than half the time of oneDNN's.
        if (scale, shift, factor) == (1.0, 0.0, 1.0):
            in_blocks(self._pool, _log, (x, y))
        else:
            in_blocks(self._pool, super().logarithm, (x, y), scale, shift, factor)

    def logarithm_backward(
        self, x: Array, dy: Array, dx: Array, scale: float, shift: float, factor: float
    ) -> None:
        """dx = dy factor scale / (scale x + shift)."""
        if (scale, shift, factor) == (1.0, 0.0, 1.0) and alike(x, dy, dx):
            self._eltwise_backward(x.size, Alg.LOG)(x, dy, dx)
        else:
            run = super().logarithm_backward
            in_blocks(self._pool, run, (x, dy, dx), scale, shift, factor)

    def swish(self, x: Array, y: Array, beta: float) -> None:
        """y = x / (1 + exp(-beta x))."""
        if alike(x, y):
            self._eltwise(x.size, Alg.SWISH, beta)(x, y)
        else:
            super().swish(x, y, beta)

    def swish_backward(
        self, x: Array, y: Array, dy: Array, dx: Array, beta: float
    ) -> None:
        """dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x))."""
        if alike(x, dy, dx):
            self._eltwise_backward(x.size, Alg.SWISH, beta)(x, dy, dx)
        else:
            super().swish_backward(x, y, dy, dx, beta)

    def threshold(self, x: Array, y: Array, threshold: float) -> None:
        """y = 1 where x > threshold, else 0."""
        in_blocks(self._pool, super().threshold, (x, y), threshold)


def _log(x: Array, y: Array) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        np.log(x, out=y)
