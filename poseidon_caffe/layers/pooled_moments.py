"""Batch normalisation over the batches of all workers together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from poseidon_caffe.backend.blob import Blob
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
        self._kept: Blob | None = None
        self._scratch: Blob | None = None
        #: By name: numbers a channel that the host writes, or kernels only for us.
        self._vectors: dict[str, Blob] = {}
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
        if _address(x) == _address(y):
            x = self._keep(x)
        self._ops.memory.clear(mean)
        self._ops.memory.clear(var)
        if x.size:
            # Of y only the moments are wanted here.
            self._own.forward(x, y, mean, var)
        self._pool_moments(x.size // mean.size, mean, var)
        if x.size:
            one = self._constant(mean, 1) if scale is None else scale
            zero = self._constant(mean, 0) if shift is None else shift
            self._given.forward(x, y, mean, var, one, zero)

    def _keep(self, x: Array) -> Array:
        """A copy of ``x``, which is about to be overwritten."""
        self._kept = self._blob_like(x, self._kept)
        kept = self._kept.data
        self._ops.copy(x, kept)
        return kept

    def _blob_like(self, x: Array, last: Blob | None) -> Blob:
        """A blob of the shape and layout of ``x``: the last one, if it fits."""
        plain = x.flags.c_contiguous
        if last is None or last.shape != x.shape or last.channels_last == plain:
            memory = self._ops.memory
            return Blob(x.shape, dtype=x.dtype, channels_last=not plain, memory=memory)
        return last

    def _vector(self, name: str, like: Array) -> Blob:
        """A kept blob of one number a channel."""
        if name not in self._vectors:
            memory = self._ops.memory
            self._vectors[name] = Blob(like.shape, dtype=like.dtype, memory=memory)
        return self._vectors[name]

    def _constant(self, like: Array, value: int) -> Array:
        blob = self._vector(f"all {value}", like)
        blob.mutable_cpu_data[...] = value
        return blob.data

    def _on_host(self, array: Array) -> Array:
        """Numbers of the channels in double precision, as a NumPy array."""
        host = np.empty(array.shape, array.dtype)
        self._ops.memory.download(array, host)
        return host.astype(np.float64)

    def _put(self, values: Array, array: Array) -> None:
        """Write numbers of the channels."""
        self._ops.memory.upload(values.astype(array.dtype), array)

    def _pool_moments(self, samples: int, mean: Array, var: Array) -> None:
        """Replace this worker's moments of ``samples`` values by everybody's.

        First the means, then the squares about the common mean, so that large means
        cancel nothing.
        """
        own_mean, own_var = self._on_host(mean), self._on_host(var)
        sums = np.append(own_mean * samples, float(samples))
        self._pool.sum(sums)
        self.count = round(sums[-1])
        divisor = max(self.count, 1)
        pooled = sums[:-1] / divisor
        squares = (own_var + np.square(own_mean - pooled)) * samples
        self._pool.sum(squares)
        self._put(pooled, mean)
        self._put(squares / divisor, var)

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
            x = self._kept.data
        one = self._constant(mean, 1) if scale is None else scale
        own_scale = self._vector("dscale", mean).data if dscale is None else dscale
        own_shift = self._vector("dshift", mean).data if dshift is None else dshift
        if x.size:
            # As if the moments were constants: dx = dy * scale / deviation.
            self._given.backward(x, dy, dx, mean, var, one, own_scale, own_shift)
        else:
            self._ops.memory.clear(own_scale)
            self._ops.memory.clear(own_shift)
        sums = np.concatenate([self._on_host(own_scale), self._on_host(own_shift)])
        self._pool.sum(sums)
        eps = self._given_geometry.eps
        deviation = np.sqrt(self._on_host(var) + eps)
        factor = -self._on_host(one) / deviation / max(self.count, 1)
        slope, offset = (self._vector(name, mean) for name in ("slope", "offset"))
        for blob, part in zip((slope, offset), np.split(sums, 2), strict=True):
            blob.mutable_cpu_data[...] = factor * part
        self._correct(x, dx, mean, var, slope.data, offset.data)

    def _correct(
        self, x: Array, dx: Array, mean: Array, var: Array, slope: Array, offset: Array
    ) -> None:
        """dx += slope * normalised x + offset, in pieces that stay in the caches."""
        step = max(1, _PIECE_COUNT * len(x) // max(x.size, 1))
        for start in range(0, len(x) if x.size else 0, step):
            part, target = x[start : start + step], dx[start : start + step]
            if start == 0:
                self._scratch = self._blob_like(part, self._scratch)
            assert self._scratch is not None
            change = self._scratch.data[: len(part)]
            kernel = self._correction(len(part))
            kernel.forward(part, change, mean, var, slope, offset)
            self._ops.add([target, change], target, [1.0, 1.0])

    def _correction(self, batch: int) -> BatchNormKernel:
        if batch not in self._corrections:
            shape = (batch, *self._given_geometry.x_shape[1:])
            geometry = replace(
                self._given_geometry, x_shape=shape, relu=False, inference=True
            )
            self._corrections[batch] = self._ops.batch_norm(geometry)
        return self._corrections[batch]


def _address(array: Array) -> int:
    """Where the first element lies, on a device or here."""
    place = getattr(array.data, "ptr", None)
    return int(array.ctypes.data if place is None else place)
