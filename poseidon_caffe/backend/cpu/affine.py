"""Gradients of channelwise scales and shifts on oneDNN, all in one go.

Its batch normalisation with mean 0 and variance 1 is y = x scale + shift, and its
backward gives the gradients of all three.  Some rows at a time are read and written:
they stay in the cache between the two passes, and no sum gets long in float32.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Arg, Desc, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.lanes import fold_of
from poseidon_caffe.backend.cpu.layout import alike, dense
from poseidon_caffe.backend.cpu.sums import CpuSums
from poseidon_caffe.types import Array

__all__ = ["CpuAffine"]

_LEAST_COUNT = 1 << 14  # elements that are worth the library's call
_BLOCK_COUNT = 1 << 21  # elements that stay in the last cache with what they give
_THREAD_COUNT = 1 << 17  # elements that are worth another thread
_IMAGES = 32  # what rows are taken to be
_USE_STORED_SCALE_SHIFT = 1 | 2 | 4


class CpuAffine(CpuSums):
    """`scale_shift_backward` of `ElementwiseOps`."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._affine_back: dict[tuple[int, int], list[Primitive]] = {}

    def scale_shift_backward(
        self,
        x: Array | None,
        dy: Array,
        axis: int,
        scale: Array | None,
        dx: Array | None,
        dscale: Array | None,
        dshift: Array | None,
        *,
        accumulate: bool = False,
    ) -> None:
        """The wanted ones of dx, dscale, dshift; dx may be dy."""
        source = dy if dscale is None or x is None else x
        targets = [a for a in (scale, dscale, dshift) if a is not None]
        rows = None
        if (
            dx is not None
            and not (dscale is None and dshift is None)
            and axis == 1
            and dy.size > _LEAST_COUNT
            and all(a.ndim == 1 and dense(a) for a in targets)
        ):
            rows = _lanes(source, dy, dx)
        if rows is None:
            super().scale_shift_backward(
                x, dy, axis, scale, dx, dscale, dshift, accumulate=accumulate
            )
            return
        sums = self._rows_back(rows, scale, dy.shape[1])
        for target, total in zip((dscale, dshift), sums, strict=True):
            if target is not None and accumulate:
                np.add(target, total, out=target, casting="same_kind")
            elif target is not None:
                target[...] = total

    def _rows_back(
        self, arrays: list[Array], scale: Array | None, channels: int
    ) -> Array:
        """dx, written; and the sums of x dy and dy for each channel: (2, C)."""
        count, width = arrays[0].shape
        zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
        factor = ones if scale is None else np.tile(scale, width // channels)
        blocks = self._shared_blocks(count, width)
        runs = [
            [self._affine_back_for(len(range(count)[rows]), width)[i] for rows in share]
            for i, share in enumerate(blocks)
        ]
        sums = np.zeros((len(blocks), 2, width))

        def work(worker: int) -> None:
            part = np.empty((2, width), np.float32)
            for rows, run in zip(blocks[worker], runs[worker], strict=True):
                x, dy, dx = (a[rows] for a in arrays)
                run(x, dy, dx, zeros, ones, factor, part[0], part[1])
                sums[worker] += part

        self._pool.run([partial(work, i) for i in range(len(blocks))])
        total: Array = sums.sum(axis=0).reshape(2, -1, channels).sum(axis=1)
        return total

    def _shared_blocks(self, count: int, width: int) -> list[list[slice]]:
        """Rows for each thread, in blocks."""
        threads = max(1, min(self._pool.threads, count * width // _THREAD_COUNT))
        step = max(1, _BLOCK_COUNT // width // _IMAGES) * _IMAGES
        share = -(-count // threads // _IMAGES) * _IMAGES
        return [
            [
                slice(at, min(at + step, start + share, count))
                for at in range(start, min(start + share, count), step)
            ]
            for start in range(0, count, share)
        ]

    def _affine_back_for(self, count: int, width: int) -> list[Primitive]:
        """One for each thread; the library's own would wait for each other."""
        key = (count, width)
        if key not in self._affine_back:
            self.dnnl.set_threads(1)
            try:
                self._affine_back[key] = self._make_affine_back(count, width)
            finally:
                self.dnnl.set_threads(self._pool.threads)
        return self._affine_back[key]

    def _make_affine_back(self, count: int, width: int) -> list[Primitive]:
        data, one = self._descs(count, width)
        hint = self.dnnl.describe(
            "batch_normalization_forward", Prop.TRAINING, data, data, 0.0,
            _USE_STORED_SCALE_SHIFT,
        )  # fmt: skip
        desc = self.dnnl.describe(
            "batch_normalization_backward", Prop.BACKWARD, data, data, data, 0.0,
            _USE_STORED_SCALE_SHIFT, hint,
        )  # fmt: skip
        operands: dict[int, Desc] = {
            Arg.SRC: data, Arg.DIFF_DST: data, Arg.DIFF_SRC: data,
            Arg.MEAN: one, Arg.VARIANCE: one, Arg.SCALE: one,
            Arg.DIFF_SCALE: one, Arg.DIFF_SHIFT: one,
        }  # fmt: skip
        return [Primitive(desc, operands) for _ in range(self._pool.threads)]

    def _descs(self, count: int, width: int) -> tuple[Desc, Desc]:
        """Of rows, as places of several images, and of one number a lane."""
        # Sums of several images have several parts, which rounds less.
        images = math.gcd(count, _IMAGES)
        places = count // images
        steps = (places * width, 1, width, width)
        data = self.dnnl.desc((images, width, places, 1), steps)
        return data, self.dnnl.desc((width,), (1,))


def _lanes(*arrays: Array) -> list[Array] | None:
    """(rows, lanes), the channels last and several places side by side, or None."""
    if not alike(*arrays):
        return None
    moved = [np.moveaxis(a, 1, -1) for a in arrays]
    if not all(a.flags.c_contiguous for a in moved):
        return None
    channels = arrays[0].shape[1]
    fold = fold_of(arrays[0].size // channels, channels)
    return [a.reshape(-1, fold * channels) for a in moved] if fold else None
