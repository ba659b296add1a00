"""Stochastic pooling by oneDNN's elementwise primitives, or in NumPy on threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    PostOp,
    Primitive,
    Prop,
)
from poseidon_caffe.backend.cpu.layout import alike, empty_laid, order_of, supported
from poseidon_caffe.backend.cpu.shares import in_shares
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.reference.stochastic_pool import ReferenceStochasticPool
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuStochasticPool"]

_MAX_TAPS = 16
_IMAGES_COUNT = 1 << 20  # elements at once on oneDNN


class _Images:
    """Sampling of some images whose windows have all their elements.

    The elements at each offset of the windows are laid apart.  Where no sum is NaN
    the numbers are the reference's.

    Args:
        geometry: of the whole batch.
        dnnl: the library.
        x: as many images as they lie in memory.
        y: as many tops as they lie in memory, without gaps.
    """

    def __init__(self, geometry: PoolGeometry, dnnl: Dnnl, x: Array, y: Array) -> None:
        self._dnnl, (kh, kw) = dnnl, geometry.kernel
        #: First element of the windows at every offset.
        self._starts = [(i, j) for i in range(kh) for j in range(kw)]
        self._flat = flat = dnnl.desc((y.size,), (1,))
        steps = [step // x.itemsize for step in x.strides]
        apart = [step * n for step, n in zip(steps[2:], geometry.stride, strict=True)]
        tap, top = dnnl.desc(y.shape, (*steps[:2], *apart)), dnnl.desc_of(y)
        self._gather, self._scatter = dnnl.reorder(tap, top), dnnl.reorder(top, tap)
        desc = dnnl.describe(
            "eltwise_forward", Prop.INFERENCE, Alg.LINEAR, flat, flat, -1.0, 1.0
        )
        self._rest = Primitive(desc, {Arg.SRC: flat, Arg.DST: flat})
        self._add, self._mul = self._binary(Alg.ADD), self._binary(Alg.MUL)
        self._less = self._binary(Alg.LT)
        self._count = self._binary(Alg.LT, Alg.ADD)
        self._first = self._binary(Alg.EQ, Alg.MUL, scalar=True)
        self._more = self._binary(Alg.EQ, Alg.MUL, Alg.ADD, scalar=True)
        taps = len(self._starts)
        self._numbers = [np.array([i], np.float32) for i in range(taps)]
        self._values = [empty_array(y.size) for _ in range(taps)]
        self._sums = [empty_array(y.size) for _ in range(taps)]

    def _binary(self, alg: Alg, *then: Alg, scalar: bool = False) -> Primitive:
        """``run(a, b, operands of then..., result)``; b may be one number."""
        flat = self._flat
        other = self._dnnl.desc((1,), (1,)) if scalar else flat
        attr = self._dnnl.attr(then=[PostOp(more, flat) for more in then])
        desc = self._dnnl.describe("binary", alg, flat, other, flat, attr=attr)
        operands: dict[int, Desc] = {Arg.SRC: flat, Arg.SRC_1: other}
        for i in range(len(then)):
            operands[Arg.POST_OP * (i + 1) | Arg.SRC_1] = flat
        return Primitive(desc, {**operands, Arg.DST: flat})

    def sample(self, x: Array, draws: Array, y: Array, chosen: Array) -> None:
        """y = the chosen elements; ``chosen`` float32 as y lies."""
        values, sums = self._values, self._sums
        for (i, j), value in zip(self._starts, values, strict=True):
            self._gather(x[:, :, i:, j:], value)
        running = values[0]
        for value, total in zip(values[1:], sums[1:], strict=True):
            self._add(running, value, total)
            running = total
        threshold = sums[0]
        self._rest(draws, threshold)
        self._mul(threshold, running, threshold)
        self._less(values[0], threshold, chosen)
        for total in sums[1:]:
            self._count(total, threshold, chosen, chosen)
        self._first(chosen, self._numbers[0], values[0], y)
        for number, value in zip(self._numbers[1:], values[1:], strict=True):
            self._more(chosen, number, value, y, y)

    def give(self, chosen: Array, dy: Array, dx: Array) -> None:
        """dx = dy at the chosen elements, where each has one window; else 0."""
        for (i, j), number in zip(self._starts, self._numbers, strict=True):
            self._first(chosen, number, dy, self._values[0])
            self._scatter(self._values[0], dx[:, :, i:, j:])


class CpuStochasticPool(ReferenceStochasticPool):
    """`PoolKernel` of method "stochastic", in pieces that stay in the cache."""

    def __init__(self, geometry: PoolGeometry, pool: ThreadPool, dnnl: Dnnl) -> None:
        super().__init__(geometry)
        self._pool, self._dnnl = pool, dnnl
        images, channels = geometry.x_shape[:2]
        whole = math.prod(geometry.x_shape[1:])
        step = max(1, 4 * BLOCK_COUNT // max(whole, 1))
        self._step = max(1, _IMAGES_COUNT // max(whole, 1))
        cuts = pool.threads if images < pool.threads else 1
        ends = [channels * i // cuts for i in range(cuts + 1)]
        self._pieces = [
            (slice(n, min(n + step, images)), slice(ends[i], ends[i + 1]))
            for n in range(0, images, step)
            for i in range(cuts)
        ]
        counts, kernel = geometry.y_shape[2:], geometry.kernel
        #: Whether every window has all its elements, and every element one window.
        self._inside = len(self._taps) == math.prod(kernel) <= _MAX_TAPS and all(
            part.indices(count) == (0, count, 1)
            for windows, _ in self._taps
            for part, count in zip(windows[2:], counts, strict=True)
        )
        self._tiled = kernel == geometry.stride and geometry.x_shape[2:] == tuple(
            count * size for count, size in zip(counts, kernel, strict=True)
        )
        self._kernels: dict[tuple[int, int, Shape, Shape], _Images] = {}
        #: What oneDNN chose last.
        self._winners: Array | None = None

    def _run(self, part: Callable[..., None], *arrays: Array) -> None:
        """Do a part piece by piece."""
        if part == self._sample:
            if self._on_onednn(*arrays[:3]):
                self._sample_all(*arrays[:3])
                return
            self._winners = None
        elif part == self._give and self._winners is not None:
            arrays = (self._winners, *arrays[1:])
            if self._tiled and alike(*arrays[:2]) and supported(arrays[2]):
                self._give_all(*arrays)
                return

        def work(piece: tuple[slice, slice]) -> Callable[[], None]:
            return lambda: part(*(array[piece] for array in arrays))

        self._pool.run_many([work(piece) for piece in self._pieces])

    def _on_onednn(self, x: Array, draws: Array, y: Array) -> bool:
        """Whether it can: the numbers must be drawn as the top lies."""
        if not (self._inside and supported(x, y) and alike(draws, y)):
            return False
        try:
            self._kernel(0, x[: self._step], y[: self._step])
        except BackendError:
            # Windows further apart than an axis is long may not be described.
            return False
        return True

    def _kernel(self, thread: int, x: Array, y: Array) -> _Images:
        key = (thread, len(x), order_of(x), order_of(y))
        if key not in self._kernels:
            self._kernels[key] = _Images(self.geometry, self._dnnl, x, y)
        return self._kernels[key]

    def _sample_all(self, x: Array, draws: Array, y: Array) -> None:
        if self._winners is None or order_of(self._winners) != order_of(y):
            self._winners = empty_laid(y.shape, order_of(y))
        chosen = self._winners

        def sample(thread: int, part: slice) -> None:
            run = self._kernel(thread, x[part], y[part])
            run.sample(x[part], draws[part], y[part], chosen[part])

        in_shares(self._pool, self._dnnl, len(x), self._step, sample)

    def _give_all(self, chosen: Array, dy: Array, dx: Array) -> None:
        def give(thread: int, part: slice) -> None:
            run = self._kernel(thread, dx[part], dy[part])
            run.give(chosen[part], dy[part], dx[part])

        in_shares(self._pool, self._dnnl, len(dx), self._step, give)
