"""Channels-last images normalised one by one, by oneDNN's batch normalisation.

An image is seen as (places, lanes).  A lane is a channel, or one of ``fold``
neighbouring places of it: the library is fast for multiples of 16 lanes only.
Each thread works through images of its own, as the library's threads wait for each
other several times an image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import (
    Arg,
    Desc,
    Dnnl,
    Primitive,
    PrimitiveDesc,
    Prop,
)
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["TINY", "Lanes", "fold_of"]

TINY = 1e-30
"""Added to variances: no division by 0, and no change to any other variance."""

_USE_STORED, _AFFINE = 1, 2 | 4
_WIDEST = 2048
_SMALL_COUNT = 1 << 15


def fold_of(places: int, channels: int) -> int:
    """Places to lay side by side for a good number of lanes, 0 if there is none."""
    for lanes in (16, 8):
        for fold in range(1, min(places, max(1, _WIDEST // channels)) + 1):
            if places % fold == 0 and fold * channels % lanes == 0:
                return fold
    return 0


class Lanes:
    """Normalisation of images of one size.

    Args:
        dnnl: the library.
        pool: its threads share the images.
        images: how many there are; fewer than threads are done one after another,
            each by all of the library's threads; small ones all by one thread.
        places: rows of an image.
        lanes: columns of an image.
    """

    def __init__(
        self, dnnl: Dnnl, pool: ThreadPool, images: int, places: int, lanes: int
    ) -> None:
        self._dnnl, self._pool = dnnl, pool
        self._places, self._lanes = places, lanes
        # Threads that are through with an image soon wait for the interpreter.
        small = places * lanes < _SMALL_COUNT
        shared = images >= pool.threads and not small
        self._threads_each = 1 if shared or small else pool.threads
        self._workers = pool.threads if shared else 1
        self._made: dict[str, list[Primitive]] = {}
        self._zeros = np.zeros(lanes, np.float32)
        self._ones = np.ones(lanes, np.float32)

    def forward(self, x: Array, y: Array, chosen: Array) -> tuple[Array, Array]:
        """y = (x - mean) / sqrt(var + TINY) for each lane of some images.

        Args:
            x: (images, places, lanes).
            y: the same; may be ``x``.
            chosen: numbers of the images.

        Returns:
            Means and variances: (chosen images, lanes).
        """
        moments = np.empty((2, len(chosen), self._lanes), np.float32)
        runs = self._ready("forward", self._forward_operands)

        def work(worker: int, order: int, image: int) -> None:
            runs[worker](x[image], y[image], moments[0, order], moments[1, order])

        self._each(chosen, work)
        return moments[0], moments[1]

    def backward(
        self, y: Array, dy: Array, dx: Array, factor: Array
    ) -> tuple[Array, Array]:
        """dx = factor (dy - mean of dy - y mean of (y dy)) for each lane.

        Args:
            y: (images, places, lanes).
            dy: the same.
            dx: the same; may be ``dy``.
            factor: (images, lanes).

        Returns:
            Sums of y dy and of dy: (images, lanes).
        """
        sums = np.empty((2, len(y), self._lanes), np.float32)

        runs = self._ready("backward", self._backward_operands)

        def work(worker: int, _order: int, image: int) -> None:
            runs[worker](
                y[image], dy[image], dx[image], self._zeros, self._ones,
                factor[image], sums[0, image], sums[1, image],
            )  # fmt: skip

        self._each(np.arange(len(y)), work)
        return sums[0], sums[1]

    def affine(
        self,
        x: Array,
        y: Array,
        chosen: Array,
        scale: Array,
        shift: Array,
        *,
        add: bool = False,
    ) -> None:
        """y = x scale + shift for each lane of some images.

        Args:
            x: (images, places, lanes).
            y: the same; may be ``x``, unless added to.
            chosen: numbers of the images.
            scale: (chosen images, lanes).
            shift: the same.
            add: whether it is added to what y holds.
        """
        scale = np.ascontiguousarray(scale, np.float32)
        shift = np.ascontiguousarray(shift, np.float32)

        runs = self._ready("affine", self._affine_operands)

        def work(worker: int, order: int, image: int) -> None:
            into = np.empty_like(y[image]) if add else y[image]
            factors = self._zeros, self._ones, scale[order], shift[order]
            runs[worker](x[image], into, *factors)
            if add:
                y[image] += into

        self._each(chosen, work)

    def _each(self, chosen: Array, work: Callable[[int, int, int], None]) -> None:
        """Work for the chosen images: it gets the worker, the image's order, itself."""
        threads = self._workers
        numbers = chosen.tolist()

        def share(index: int) -> Callable[[], None]:
            start, stop = (len(numbers) * i // threads for i in (index, index + 1))

            def run() -> None:
                for order in range(start, stop):
                    work(index, order, numbers[order])

            return run

        self._pool.run([share(i) for i in range(threads)])

    def _descs(self) -> tuple[Desc, Desc]:
        places, lanes = self._places, self._lanes
        steps = (places * lanes, 1, lanes, lanes)
        return (
            self._dnnl.desc((1, lanes, places, 1), steps),
            self._dnnl.desc((lanes,), (1,)),
        )

    def _ready(
        self, name: str, describe: Callable[[], tuple[PrimitiveDesc, dict[int, Desc]]]
    ) -> list[Primitive]:
        """One primitive for each worker, as operands cannot be shared."""
        if name not in self._made:
            # A primitive keeps the number of threads that it was described under.
            self._dnnl.set_threads(self._threads_each)
            try:
                desc, operands = describe()
                self._made[name] = [
                    Primitive(desc, operands) for _ in range(self._workers)
                ]
            finally:
                self._dnnl.set_threads(self._pool.threads)
        return self._made[name]

    def _forward_operands(self) -> tuple[PrimitiveDesc, dict[int, Desc]]:
        data, one = self._descs()
        desc = self._dnnl.describe(
            "batch_normalization_forward", Prop.TRAINING, data, data, TINY, 0
        )
        return desc, {
            Arg.SRC: data, Arg.DST: data, Arg.MEAN: one, Arg.VARIANCE: one,
        }  # fmt: skip

    def _backward_operands(self) -> tuple[PrimitiveDesc, dict[int, Desc]]:
        data, one = self._descs()
        hint = self._dnnl.describe(
            "batch_normalization_forward", Prop.TRAINING, data, data, 0.0, _AFFINE
        )
        desc = self._dnnl.describe(
            "batch_normalization_backward", Prop.BACKWARD, data, data, data, 0.0,
            _AFFINE, hint,
        )  # fmt: skip
        return desc, {
            Arg.SRC: data, Arg.DIFF_DST: data, Arg.DIFF_SRC: data, Arg.MEAN: one,
            Arg.VARIANCE: one, Arg.SCALE: one, Arg.DIFF_SCALE: one,
            Arg.DIFF_SHIFT: one,
        }  # fmt: skip

    def _affine_operands(self) -> tuple[PrimitiveDesc, dict[int, Desc]]:
        data, one = self._descs()
        desc = self._dnnl.describe(
            "batch_normalization_forward", Prop.INFERENCE, data, data, 0.0,
            _USE_STORED | _AFFINE,
        )  # fmt: skip
        return desc, {
            Arg.SRC: data, Arg.DST: data, Arg.MEAN: one, Arg.VARIANCE: one,
            Arg.SCALE: one, Arg.SHIFT: one,
        }  # fmt: skip
