"""Stochastic pooling in NumPy, a few images at a time on all threads."""

from __future__ import annotations

import math
from collections.abc import Callable

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.reference.stochastic_pool import ReferenceStochasticPool
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["CpuStochasticPool"]


class CpuStochasticPool(ReferenceStochasticPool):
    """`PoolKernel` of method "stochastic": the reference's steps in cached pieces."""

    def __init__(self, geometry: PoolGeometry, pool: ThreadPool) -> None:
        super().__init__(geometry)
        self._pool = pool
        images, channels = geometry.x_shape[:2]
        whole = math.prod(geometry.x_shape[1:])
        step = max(1, 4 * BLOCK_COUNT // max(whole, 1))
        cuts = pool.threads if images < pool.threads else 1
        ends = [channels * i // cuts for i in range(cuts + 1)]
        self._pieces = [
            (slice(n, min(n + step, images)), slice(ends[i], ends[i + 1]))
            for n in range(0, images, step)
            for i in range(cuts)
        ]

    def _run(self, part: Callable[..., None], *arrays: Array) -> None:
        """Do a part piece by piece."""

        def work(piece: tuple[slice, slice]) -> Callable[[], None]:
            return lambda: part(*(array[piece] for array in arrays))

        self._pool.run_many([work(piece) for piece in self._pieces])
