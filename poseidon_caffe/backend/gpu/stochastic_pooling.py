"""Stochastic pooling: one element of each window, as probable as it is large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.gpu.division import divider, order_numbers
from poseidon_caffe.backend.gpu.image_planes import GpuImagePlanes, ImagePlanes
from poseidon_caffe.backend.gpu.kept import Kept
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.gpu.random import PhiloxGenerator
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuStochasticPool", "kept_steps", "order_of", "pool_numbers"]


def pool_numbers(geometry: PoolGeometry) -> Shape:
    """The settings as the kernels take them."""
    g = geometry
    divided = (g.x_shape[3], g.y_shape[3], *g.stride)
    return (
        *g.x_shape[2:], *g.y_shape[2:], *g.kernel, *g.stride, *g.pad,
        *map(divider, divided),
    )  # fmt: skip


def order_of(planes: ImagePlanes) -> Shape:
    """The order of threads that go as an array lies."""
    return order_numbers(
        planes.channels, planes.places, channels_last=planes.channels_last
    )


def kept_steps(kept: Kept, top: ImagePlanes) -> Shape:
    """Elements from image to image, channel to channel, place to place of ``kept``."""
    image = top.channels * top.places
    return (image, 1, top.channels) if kept.channels_last else (image, top.places, 1)


class GpuStochasticPool:
    """`PoolKernel` of method "stochastic"; arrays may have any strides.

    TRAIN: of a window's elements, in row-major order, the first wins at which their
    running sum reaches u times their total, u uniform in (0, 1].  TEST (no generator):
    sum of squares / sum.  Values are taken to be positive, as after a ReLU.

    A NumPy generator may be given instead of the GPU's own, to compare with other
    backends: its numbers are uploaded at every forward.

    Args:
        geometry: shapes and settings.
        ops: the device and its memory.
    """

    def __init__(self, geometry: PoolGeometry, ops: GpuImagePlanes) -> None:
        self.geometry = geometry
        self._ops = ops
        self._numbers = pool_numbers(geometry)
        self._count = math.prod(geometry.y_shape)
        self._winners = Kept(ops, self._count, np.int32)
        self._totals: Kept | None = None
        self._expected: tuple[Array, Array] | None = None
        self._sampled = False
        self._draws: Array | None = None

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        if mask is not None:
            raise BackendError("stochastic pooling gives no mask")
        self._sampled = rng is not None
        self._expected = None if self._sampled else (x, y)
        image = self._ops.image_planes("x", x)
        with self._ops.written_image_planes("y", y) as top:
            if self._sampled:
                self._sample(image, top, rng)
            else:
                self._expect(image, top)

    def _sample(self, image: ImagePlanes, top: ImagePlanes, rng: Any) -> None:
        own = isinstance(rng, PhiloxGenerator)
        draws = None if own or not self._count else self._uploaded(rng)
        self._ops.kernels("pooling").each(
            "stochastic_sample", top.array.dtype, self._count, image.array, top.array,
            self._winners.written(top), draws, rng.words if own else None,
            self._count, *order_of(top), *image.steps, *top.steps, *self._numbers,
        )  # fmt: skip
        if own:
            rng.step()

    def _uploaded(self, rng: np.random.Generator) -> Array:
        """NumPy's draws, in the order that the CPU backends take them."""
        if self._draws is None:
            self._draws = self._ops.memory.zeros(self._count, np.float32)
        self._ops.memory.upload(rng.random(self._count, np.float32), self._draws)
        return self._draws

    def _expect(self, image: ImagePlanes, top: ImagePlanes) -> None:
        dtype: np.dtype = top.array.dtype
        if self._totals is None:
            self._totals = Kept(self._ops, self._count, param_dtype(dtype))
        self._ops.kernels("pooling").each(
            "stochastic_expect", dtype, self._count, image.array, top.array,
            self._totals.written(top), self._count, *order_of(top), *image.steps,
            *top.steps, *self._numbers,
        )  # fmt: skip

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose, or of the expectation."""
        if not self._sampled and self._expected is None:
            raise BackendError("stochastic pooling backward needs a forward")
        top = self._ops.image_planes("dy", dy)
        with self._ops.written_image_planes("dx", dx) as image:
            if self._expected is None:
                self._ops.kernels("pooling").each(
                    "max_backward", dx.dtype, dx.size, top.array,
                    self._winners.array, image.array, dx.size, *order_of(image),
                    *image.steps, *top.steps, *kept_steps(self._winners, top),
                    *self._numbers,
                )  # fmt: skip
            else:
                self._spread(*self._expected, top, image)

    def _spread(self, x: Array, y: Array, dy: ImagePlanes, dx: ImagePlanes) -> None:
        assert self._totals is not None
        source, result = (
            self._ops.image_planes(name, a) for name, a in (("x", x), ("y", y))
        )
        self._ops.kernels("pooling").each(
            "stochastic_spread", dx.array.dtype, dx.array.size, source.array,
            result.array, self._totals.array, dy.array, dx.array, dx.array.size,
            *order_of(dx), *source.steps, *result.steps, *dy.steps, *dx.steps,
            *kept_steps(self._totals, dy), *self._numbers,
        )  # fmt: skip
