"""Batch normalisation over the batches of all workers together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.protocols import BatchNormKernel, Ops
from poseidon_caffe.layers.base import Pool
from poseidon_caffe.types import Array

__all__ = ["PooledBatchNorm"]

_PIECE_COUNT = 1 << 18


class PooledBatchNorm:
    """`BatchNormKernel` whose moments are those of all workers' values.

    N workers of batch B then normalise as one with batch N B does.  Built from a
    backend's own kernels: one takes this worker's moments, another normalises by
    the pooled ones.  What is pooled is float64 and a few numbers a channel.

    Gradients: a worker's loss is a mean over its own B records, so its dy is N times
    the single process's.  dx is linear in the dy of all workers, so N times too, and
    so is every gradient below; averaging parameter gradients over workers takes the
    N out again.  For the same reason dscale and dshift stay sums over the worker's
    own values: it is their average that equals the single process's.

    Every call waits for the slowest worker: forward twice, backward once.

    Args:
        ops: the backend.
        geometry: of this worker's part; without ``use_stored``.
        pool: adds up over workers.

    Attributes:
        count: values that one channel's moments were taken over, in all workers'
            batches of the last forward.
    """

    def __init__(self, ops: Ops, geometry: BatchNormGeometry, pool: Pool) -> None:
        self._ops, self._pool = ops, pool
        self._own = ops.batch_norm(
            replace(geometry, affine=False, relu=False, inference=True)
        )
        # Affine always, as the gradients of scale and shift are the sums wanted.
        self._given_geometry = replace(geometry, use_stored=True, affine=True)
        self._given = ops.batch_norm(self._given_geometry)
        self._corrections: dict[int, BatchNormKernel] = {}
        self._kept: Array | None = None
        self._scratch: Array | None = None
        self.count = 0

    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]; pools mean and var."""
        if np.may_share_memory(x, y):
            x = self._keep(x)
        mean[...] = 0
        var[...] = 0
        if x.size:
            # Of y only the moments are wanted here.
            self._own.forward(x, y, mean, var)
        self._pool_moments(x.size // mean.size, mean, var)
        if x.size:
            one = np.ones_like(mean) if scale is None else scale
            zero = np.zeros_like(mean) if shift is None else shift
            self._given.forward(x, y, mean, var, one, zero)

    def _keep(self, x: Array) -> Array:
        """A copy of ``x``, which is about to be overwritten."""
        if (
            self._kept is None
            or self._kept.shape != x.shape
            or self._kept.strides != x.strides
        ):
            self._kept = np.empty_like(x)
        self._ops.copy(x, self._kept)
        return self._kept

    def _pool_moments(self, samples: int, mean: Array, var: Array) -> None:
        """Replace this worker's moments of ``samples`` values by everybody's.

        First the means, then the squares about the common mean, so that large means
        cancel nothing.
        """
        own_mean, own_var = mean.astype(np.float64), var.astype(np.float64)
        sums = np.append(own_mean * samples, float(samples))
        self._pool.sum(sums)
        self.count = round(sums[-1])
        divisor = max(self.count, 1)
        pooled = sums[:-1] / divisor
        squares = (own_var + np.square(own_mean - pooled)) * samples
        self._pool.sum(squares)
        mean[...] = pooled
        var[...] = squares / divisor

    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        dscale: Array | None = None,
        dshift: Array | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """dx from everybody's dy; dscale and dshift from this worker's alone."""
        if in_place and self._kept is not None:
            x = self._kept
        one = np.ones_like(mean) if scale is None else scale
        own_scale = np.zeros_like(mean) if dscale is None else dscale
        own_shift = np.zeros_like(mean) if dshift is None else dshift
        if x.size:
            # As if the moments were constants: dx = dy * scale / deviation.
            self._given.backward(x, dy, dx, mean, var, one, own_scale, own_shift)
        else:
            own_scale[...] = own_shift[...] = 0
        sums = np.concatenate([own_scale, own_shift]).astype(np.float64)
        self._pool.sum(sums)
        eps = self._given_geometry.eps
        factor = -one / np.sqrt(var.astype(np.float64) + eps) / max(self.count, 1)
        slope, offset = (
            (factor * part).astype(x.dtype) for part in np.split(sums, 2)
        )  # fmt: skip
        self._correct(x, dx, mean, var, slope, offset)

    def _correct(
        self, x: Array, dx: Array, mean: Array, var: Array, slope: Array, offset: Array
    ) -> None:
        """dx += slope * normalised x + offset, in pieces that stay in the caches."""
        step = max(1, _PIECE_COUNT * len(x) // max(x.size, 1))
        for start in range(0, len(x) if x.size else 0, step):
            part, target = x[start : start + step], dx[start : start + step]
            if self._scratch is None or self._scratch.shape[1:] != part.shape[1:]:
                self._scratch = np.empty_like(part)
            change = self._scratch[: len(part)]
            kernel = self._correction(len(part))
            kernel.forward(part, change, mean, var, slope, offset)
            self._ops.add([target, change], target, [1.0, 1.0])

    def _correction(self, batch: int) -> BatchNormKernel:
        if batch not in self._corrections:
            shape = (batch, *self._given_geometry.x_shape[1:])
            geometry = replace(self._given_geometry, x_shape=shape, inference=True)
            self._corrections[batch] = self._ops.batch_norm(geometry)
        return self._corrections[batch]
