"""Normalisation by own moments on oneDNN, one pass through memory.

Rows that lie together are its layer normalisation, channels-last images its batch
normalisation (see `lanes`).  It sums float32 one after another, which costs precision
where the mean is much larger than the deviation: such groups are normalised once
more, the result being small.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.dnnl import Arg, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.lanes import TINY, Lanes, fold_of
from poseidon_caffe.backend.cpu.layout import alike, dense
from poseidon_caffe.backend.cpu.moments import CpuMoments
from poseidon_caffe.types import Array

__all__ = ["DnnlMoments"]

_LEAST_COUNT = 1 << 12  # elements of an image that are worth a call of their own
_FAR = 4.0  # deviations between mean and 0 that call for another round
_CLOSE = 1e-6  # factors this near to 1 are left out


class DnnlMoments(CpuMoments):
    """`MomentOps` on oneDNN where it is fast, else in blocks of NumPy."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._row_forward: dict[tuple[int, int], Primitive] = {}
        self._row_backward: dict[tuple[int, int], Primitive] = {}
        self._lanes: dict[tuple[int, int, int], Lanes] = {}

    def mean_variance(
        self, x: Array, y: Array, kept: int, eps: float, deviation: Array | None
    ) -> None:
        """y = (x - mean) / deviation; in place allowed."""
        if deviation is not None and dense(deviation) and _large(x, y):
            rows = _rows(kept, x, y)
            if rows is not None:
                self._normalize_rows(rows[0], rows[1], eps, deviation)
                return
            images = _images(x, y)
            if images is not None:
                self._normalize_images(images[0], images[1], eps, deviation)
                return
        super().mean_variance(x, y, kept, eps, deviation)

    def mean_variance_backward(
        self, y: Array, dy: Array, dx: Array, kept: int, deviation: Array | None
    ) -> None:
        """dx = (dy - mean of dy - y mean of (y dy)) / deviation; dx may be dy."""
        if deviation is not None and _large(y, dy, dx):
            rows = _rows(kept, y, dy, dx)
            if rows is not None:
                self._undo_rows(rows[0], rows[1], rows[2], deviation)
                return
            images = _images(y, dy, dx)
            if images is not None:
                self._undo_images(images[0], images[1], images[2], deviation)
                return
        super().mean_variance_backward(y, dy, dx, kept, deviation)

    def _normalize_rows(self, x: Array, y: Array, eps: float, deviation: Array) -> None:
        run = self._forward_of_rows(x)
        mean, var = np.empty((2, len(x)), np.float32)
        run(x, y, mean, var)
        spread = np.sqrt(var)
        if (np.abs(mean) > _FAR * spread).any():
            run(y, y, mean, var)
            spread *= np.sqrt(var)
        deviation[...] = (spread + eps).reshape(deviation.shape)
        factor = _factor(spread, eps)
        if (factor < 1 - _CLOSE).any():
            self._scale_rows(y, factor.astype(np.float32))

    def _forward_of_rows(self, x: Array) -> Primitive:
        if x.shape not in self._row_forward:
            data = self.dnnl.desc(x.shape, (x.shape[1], 1))
            one = self.dnnl.desc((len(x),), (1,))
            desc = self.dnnl.describe(
                "layer_normalization_forward", Prop.TRAINING, data, data, one, TINY, 0
            )
            self._row_forward[x.shape] = Primitive(
                desc, {Arg.SRC: data, Arg.DST: data, Arg.MEAN: one, Arg.VARIANCE: one}
            )
        return self._row_forward[x.shape]

    def _undo_rows(self, y: Array, dy: Array, dx: Array, deviation: Array) -> None:
        if y.shape not in self._row_backward:
            data = self.dnnl.desc(y.shape, (y.shape[1], 1))
            one = self.dnnl.desc((len(y),), (1,))
            args = (data, one, 0.0, 0)
            hint = self.dnnl.describe(
                "layer_normalization_forward", Prop.TRAINING, data, *args
            )
            desc = self.dnnl.describe(
                "layer_normalization_backward", Prop.BACKWARD_DATA, data, data, *args,
                hint,
            )  # fmt: skip
            self._row_backward[y.shape] = Primitive(
                desc,
                {
                    Arg.SRC: data, Arg.DIFF_DST: data, Arg.DIFF_SRC: data,
                    Arg.MEAN: one, Arg.VARIANCE: one,
                },
            )  # fmt: skip
        zeros, ones = np.zeros(len(y), np.float32), np.ones(len(y), np.float32)
        self._row_backward[y.shape](y, dy, dx, zeros, ones)
        self._scale_rows(dx, 1 / deviation.reshape(-1))

    def _scale_rows(self, rows: Array, factor: Array) -> None:
        """rows[i] *= factor[i]."""
        step = max(1, BLOCK_COUNT // rows.shape[1])

        def piece(start: int) -> Callable[[], None]:
            part = rows[start : start + step]
            some = factor[start : start + step, None]

            def work() -> None:
                np.multiply(part, some, out=part)

            return work

        self._pool.run_many([piece(i) for i in range(0, len(rows), step)])

    def _lanes_of(self, images: Array) -> Lanes:
        key = images.shape
        if key not in self._lanes:
            self._lanes[key] = Lanes(self.dnnl, self._pool, *key)
        return self._lanes[key]

    def _normalize_images(
        self, x: Array, y: Array, eps: float, deviation: Array
    ) -> None:
        lanes, every = self._lanes_of(x), np.arange(len(x))
        mean, var = (a.astype(np.float64) for a in lanes.forward(x, y, every))
        spread = np.sqrt(var)
        far = np.flatnonzero((np.abs(mean) > _FAR * spread).any(axis=1))
        if len(far):
            more_mean, more_var = lanes.forward(y, y, far)
            mean[far] += more_mean * spread[far]
            spread[far] *= np.sqrt(more_var)
        self._finish(lanes, y, mean, spread, eps, deviation)

    def _finish(
        self,
        lanes: Lanes,
        y: Array,
        mean: Array,
        spread: Array,
        eps: float,
        deviation: Array,
    ) -> None:
        """From lanes to channels: y spread + mean was the input."""
        images, channels = deviation.shape
        fold = y.shape[-1] // channels
        parts = mean.reshape(images, fold, channels)
        inner = spread.reshape(images, fold, channels)
        whole = parts.mean(axis=1, keepdims=True)
        off = parts - whole
        total = np.sqrt((inner**2 + off**2).mean(axis=1, keepdims=True))
        deviation[...] = total[:, 0] + eps
        # A lane that did not vary was divided by the root of TINY.
        scale = np.sqrt(inner**2 + TINY) / (total + eps + math.sqrt(TINY))
        if fold == 1:
            wrong = np.flatnonzero((scale < 1 - _CLOSE).any(axis=(1, 2)))
        else:
            wrong = np.arange(images)
        if len(wrong):
            shift = off / (total + eps + math.sqrt(TINY))
            pair = (a[wrong].reshape(len(wrong), -1) for a in (scale, shift))
            lanes.affine(y, y, wrong, *pair)

    def _undo_images(self, y: Array, dy: Array, dx: Array, deviation: Array) -> None:
        images, channels = deviation.shape
        places, width = y.shape[1:]
        fold = width // channels
        lanes = self._lanes_of(y)
        factor = np.tile(1 / deviation, (1, fold))
        sums = lanes.backward(y, dy, dx, factor)
        if fold == 1:
            return
        # Each lane's own means were taken away instead of its channel's.
        both, mean = (
            a.astype(np.float64).reshape(images, fold, channels) / places for a in sums
        )
        inverse = factor.reshape(both.shape)
        scale, shift = (
            ((a - a.mean(axis=1, keepdims=True)) * inverse).reshape(images, -1)
            for a in (both, mean)
        )
        lanes.affine(y, dx, np.arange(images), scale, shift, add=True)


def _large(*arrays: Array) -> bool:
    return arrays[0].size > BLOCK_COUNT and alike(*arrays)


def _factor(spread: Array, eps: float) -> Array:
    """From division by a root with TINY to one by spread + eps."""
    wide = spread.astype(np.float64)
    root = np.sqrt(wide**2 + TINY)
    factor: Array = root / (wide + eps + math.sqrt(TINY))
    return factor


def _rows(kept: int, *arrays: Array) -> list[Array] | None:
    """(groups, elements) if each group lies together."""
    first = arrays[0]
    if all(a.flags.c_contiguous for a in arrays):
        return [a.reshape(math.prod(first.shape[:kept]), -1) for a in arrays]
    moved = [np.moveaxis(a, 1, -1) for a in arrays]
    if kept == 1 and all(a.flags.c_contiguous for a in moved):
        return [a.reshape(len(first), -1) for a in moved]
    return None


def _images(*arrays: Array) -> list[Array] | None:
    """(images, places, lanes) of channels-last arrays of a good size."""
    first = arrays[0]
    moved = [np.moveaxis(a, 1, -1) for a in arrays]
    channels = first.shape[1]
    fold = fold_of(first[0, 0].size, channels)
    least = _LEAST_COUNT if fold == 1 else 2 * _LEAST_COUNT  # two calls
    if not fold or first[0].size < least:
        return None
    if not all(a.flags.c_contiguous for a in moved):
        return None
    return [a.reshape(len(first), -1, fold * channels) for a in moved]
