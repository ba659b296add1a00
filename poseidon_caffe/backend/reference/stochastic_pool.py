"""Stochastic pooling: one element of each window, as probable as it is large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.reference.windows import Windows
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["ReferenceStochasticPool"]

# What Caffe starts its sum of weights from, so that it divides by no 0.
_TINY = float(np.finfo(np.float32).tiny)

_Index: TypeAlias = tuple[slice, ...]


class ReferenceStochasticPool:
    """`PoolKernel` of method "stochastic"; arrays may have any strides.

    TRAIN: of a window's elements, in row-major order, the first wins at which their
    running sum reaches u times their total, u uniform in (0, 1].  TEST (no generator):
    sum of squares / sum.

    Values are taken to be positive, as after a ReLU.
    """

    def __init__(self, geometry: PoolGeometry) -> None:
        self.geometry = g = geometry
        rows, cols = (
            Windows(
                g.x_shape[i + 2], g.y_shape[i + 2], g.kernel[i], g.stride[i], g.pad[i]
            )
            for i in range(2)
        )
        both = (slice(None), slice(None))
        #: (windows, elements) of every offset in a window that meets the image.
        self._taps: list[tuple[_Index, _Index]] = [
            ((*both, wi, wj), (*both, ei, ej))
            for _, wi, ei in rows.taps()
            for _, wj, ej in cols.taps()
        ]
        self._workspace = Workspace()
        self._draws: Array | None = None
        self._chosen: Array | None = None
        self._expected: tuple[Array, Array, Array] | None = None

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        if mask is not None:
            raise BackendError("stochastic pooling gives no mask of winners")
        if rng is None:
            total = np.empty_like(y) if self._expected is None else self._expected[2]
            self._run(self._expect, x, y, total)
            self._expected, self._chosen = (x, y, total), None
            return
        n, c, h, w = self.geometry.y_shape
        if self._draws is None:
            self._draws = np.empty((n, h, w, c), np.float32)
        # Drawn in one order whatever the memory layout.
        rng.random(dtype=np.float32, out=self._draws)
        if self._chosen is None or self._chosen.strides != y.strides:
            kind = np.min_scalar_type(len(self._taps))
            self._chosen = np.empty_like(y, kind)
        self._expected = None
        self._run(self._sample, x, np.moveaxis(self._draws, 3, 1), y, self._chosen)

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose, or of the expectation."""
        if self._expected is not None:
            self._run(self._spread, *self._expected, dy, dx)
        elif self._chosen is not None:
            self._run(self._give, self._chosen, dy, dx)
        else:
            raise BackendError("stochastic pooling backward needs a forward")

    def _run(self, part: Callable[..., None], *arrays: Array) -> None:
        """Do one of the parts below for all images."""
        part(*arrays)

    # -- parts: any images and channels --------------------------------------------
    def _sample(self, x: Array, draws: Array, y: Array, chosen: Array) -> None:
        sums = self._scratch("sums", y, y.dtype)
        sums[...] = 0
        for windows, elements in self._taps:
            sums[windows] += x[elements]
        threshold = self._scratch("threshold", y, y.dtype)
        np.subtract(1, draws, out=threshold)
        threshold *= sums
        # The same sums once more: the last of them is the total, bit for bit.
        sums[...] = 0
        chosen[...] = 0
        below = self._scratch("below", y, np.dtype(bool))
        for windows, elements in self._taps:
            sums[windows] += x[elements]
            np.less(sums, threshold, out=below)
            chosen += below.view(np.uint8)
        self._pick(x, y, chosen, below)

    def _pick(self, x: Array, y: Array, chosen: Array, wins: Array) -> None:
        """y = the chosen elements.

        By masks of bits: a copy of a random half mispredicts a branch every time.
        """
        bits = np.dtype(f"i{y.itemsize}")
        source, target = x.view(bits), y.view(bits)
        mask = self._scratch("mask", y, bits)
        target[...] = 0
        for number, (windows, elements) in enumerate(self._taps):
            won, part = wins[windows], mask[windows]
            np.equal(chosen[windows], number, out=won)
            np.copyto(part, won)
            np.negative(part, out=part)
            part &= source[elements]
            target[windows] |= part

    def _scratch(self, name: str, y: Array, dtype: np.dtype) -> Array:
        """Memory of this thread that lies as ``y`` does."""
        if y.strides[1] >= y.strides[3]:
            return self._workspace.take(name, y.shape, dtype)
        n, c, h, w = y.shape
        return np.moveaxis(self._workspace.take(name, (n, h, w, c), dtype), 3, 1)

    def _give(self, chosen: Array, dy: Array, dx: Array) -> None:
        dx[...] = 0
        product = self._scratch("product", dy, dy.dtype)
        for number, (windows, elements) in enumerate(self._taps):
            part = product[windows]
            np.multiply(dy[windows], chosen[windows] == number, out=part)
            dx[elements] += part

    def _expect(self, x: Array, y: Array, total: Array) -> None:
        total[...] = _TINY
        y[...] = 0
        for windows, elements in self._taps:
            values = x[elements]
            total[windows] += values
            y[windows] += values * values
        y /= total

    def _spread(self, x: Array, y: Array, total: Array, dy: Array, dx: Array) -> None:
        dx[...] = 0
        share = dy / total
        for windows, elements in self._taps:
            dx[elements] += share[windows] * (2 * x[elements] - y[windows])
