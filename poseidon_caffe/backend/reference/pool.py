"""Max and average pooling with Caffe's windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.protocols.kernels import PoolKernel
from poseidon_caffe.backend.reference.stochastic_pool import ReferenceStochasticPool
from poseidon_caffe.backend.reference.windows import Windows
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["ReferencePool", "ReferencePooling"]

# What Caffe starts its search for a maximum from.
_LOWEST = float(np.finfo(np.float32).min)


class ReferencePool:
    """`PoolKernel` for one geometry; arrays may have any strides."""

    def __init__(self, geometry: PoolGeometry) -> None:
        if geometry.method not in {"max", "ave"}:
            msg = f'pooling method "{geometry.method}" is none of max, ave, stochastic'
            raise BackendError(msg)
        self.geometry = geometry
        self._rows, self._cols = (
            Windows(
                geometry.x_shape[i + 2],
                geometry.y_shape[i + 2],
                geometry.kernel[i],
                geometry.stride[i],
                geometry.pad[i],
            )
            for i in range(2)
        )
        self._winners: Array | None = None

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        if self.geometry.method == "ave":
            self._average(x, y)
            return
        self._winners = self._maximum(x, y)
        if mask is not None:
            mask[...] = self._winners

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose (or by ``mask``)."""
        if self.geometry.method == "ave":
            dx[...] = self._spread(dy / self._divisor(dy.dtype))
        else:
            self._give_winners(dy, dx, self._winners if mask is None else mask)

    # -- max ---------------------------------------------------------------------
    def _maximum(self, x: Array, y: Array) -> Array:
        """First along each row of a window, then down it: row-major order.

        Who won is kept as a number that is larger for earlier elements, so that
        the first winner is a maximum too, which is quick where a conditional
        copy is not: (kernel_h - i) * (kernel_w + 1) + (kernel_w - j) for the
        element (i, j) of a window.  A row without a winner (all NaN) adds 0.
        """
        g = self.geometry
        best = np.full((*g.x_shape[:3], g.y_shape[3]), _LOWEST, x.dtype)
        cols, rows = self._cols.taps(), self._rows.taps()
        for _, windows, elements in cols:
            part = best[..., windows]
            np.fmax(part, x[..., elements], out=part)
        rank = np.zeros(best.shape, np.int32)
        for offset, windows, elements in cols:
            wins = x[..., elements] == best[..., windows]
            part = rank[..., windows]
            np.maximum(part, wins * np.int32(g.kernel[1] - offset), out=part)
        y[...] = _LOWEST
        for _, windows, elements in rows:
            part = y[:, :, windows]
            np.fmax(part, best[:, :, elements], out=part)
        code = np.zeros(g.y_shape, np.int32)
        for offset, windows, elements in rows:
            value = rank[:, :, elements] + np.int32(
                (g.kernel[0] - offset) * (g.kernel[1] + 1)
            )
            value *= best[:, :, elements] == y[:, :, windows]
            part = code[:, :, windows]
            np.maximum(part, value, out=part)
        return self._places(code)

    def _places(self, code: Array) -> Array:
        """Index in the H*W plane for each code of `_maximum`, -1 where nobody won."""
        g = self.geometry
        row, col = np.divmod(code, np.int32(g.kernel[1] + 1))
        nobody = col == 0
        first_rows, first_cols = (
            np.arange(g.y_shape[i + 2], dtype=np.int32) * g.stride[i]
            - g.pad[i]
            + g.kernel[i]
            for i in range(2)
        )
        np.subtract(first_rows[:, None], row, out=row)
        np.subtract(first_cols, col, out=col)
        row *= np.int32(g.x_shape[3])
        row += col
        row[nobody] = -1
        return row

    def _give_winners(self, dy: Array, dx: Array, winners: Array | None) -> None:
        """Add each top gradient to the element that won; windows may share one."""
        if winners is None:
            msg = "pooling backward needs a forward, or the mask that it gave"
            raise BackendError(msg)
        planes, size = dx.shape[0] * dx.shape[1], dx.shape[2] * dx.shape[3]
        flat = (planes, winners.shape[2] * winners.shape[3])
        places = winners.reshape(flat).astype(np.int64)
        valid = places >= 0
        places += np.arange(planes, dtype=np.int64)[:, None] * size
        values = dy.reshape(flat)
        if not valid.all():
            places, values = places[valid], values[valid]
        total = np.bincount(
            places.reshape(-1), values.reshape(-1), minlength=planes * size
        )
        dx[...] = total.reshape(dx.shape)

    # -- average -------------------------------------------------------------------
    def _divisor(self, dtype: np.dtype) -> Array:
        rows, cols = self._rows.padded_lengths(), self._cols.padded_lengths()
        return np.multiply.outer(rows, cols).astype(dtype)

    def _sum(self, x: Array) -> Array:
        return self._rows.sum(self._cols.sum(x, 3), 2)

    def _spread(self, y: Array) -> Array:
        return self._cols.spread(self._rows.spread(y, 2), 3)

    def _average(self, x: Array, y: Array) -> None:
        np.divide(self._sum(x), self._divisor(x.dtype), out=y)


class ReferencePooling:
    """Makes pooling kernels."""

    def pooling(self, geometry: PoolGeometry) -> PoolKernel:
        """A pooling kernel for ``geometry``."""
        if geometry.method == "stochastic":
            return ReferenceStochasticPool(geometry)
        return ReferencePool(geometry)
