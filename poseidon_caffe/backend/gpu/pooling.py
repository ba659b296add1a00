"""Max and average pooling: a thread an output, and an element's windows backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.gpu.division import order_numbers
from poseidon_caffe.backend.gpu.image_planes import GpuImagePlanes, ImagePlanes
from poseidon_caffe.backend.gpu.kept import Kept
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.stochastic_pooling import (
    GpuStochasticPool,
    kept_steps,
    order_of,
    pool_numbers,
)
from poseidon_caffe.backend.protocols.kernels import PoolKernel
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["GpuPool", "GpuPooling"]

_LARGE = 32  # places of a window from which on several threads share it
_MANY = 1 << 17  # outputs that keep a GPU busy with one thread each
_LANES = 32


class GpuPool:
    """`PoolKernel` for one geometry; arrays may have any strides.

    Backward goes by the winners that the last forward noted as whole numbers, which a
    mask of 16-bit floats could not hold; by the mask only where there was no forward.

    Args:
        geometry: shapes and settings, with method "max" or "ave".
        ops: the device and its memory.

    Raises:
        BackendError: another method.
    """

    def __init__(self, geometry: PoolGeometry, ops: GpuImagePlanes) -> None:
        if geometry.method not in {"max", "ave"}:
            msg = f'pooling method "{geometry.method}" is none of max, ave, stochastic'
            raise BackendError(msg)
        self.geometry = geometry
        self._ops = ops
        self._numbers = pool_numbers(geometry)
        self._winners = Kept(ops, math.prod(geometry.y_shape), np.int32)

    # -- forward -------------------------------------------------------------------
    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        if not y.size:
            self._winners.plain()
            return
        image = self._ops.image_planes("x", x)
        with self._ops.written_image_planes("y", y) as top:
            if self.geometry.method == "ave":
                self._run("average", image, top, [image.array, top.array], [])
            elif mask is None:
                self._maximum(image, top, None)
            else:
                with self._ops.written_image_planes("mask", mask) as places:
                    self._maximum(image, top, places)

    def _maximum(
        self, image: ImagePlanes, top: ImagePlanes, mask: ImagePlanes | None
    ) -> None:
        winners = self._winners.written(top)
        masked = mask.array if mask else None
        steps = mask.steps if mask else (0, 0, 0)
        self._run(
            "max", image, top, [image.array, top.array, masked, winners], [*steps]
        )

    def _run(
        self,
        method: str,
        image: ImagePlanes,
        top: ImagePlanes,
        arrays: list[Array | None],
        more: list[int],
    ) -> None:
        """A thread for each output, or a block for some if their windows are large."""
        g, count = self.geometry, top.array.size
        launcher = self._ops.kernels("pooling")
        numbers = (count, *order_of(top), *image.steps, *top.steps)
        window = math.prod(map(min, g.kernel, g.x_shape[2:]))
        alone = top.channels_last and count >= _MANY
        dtype: np.dtype = top.array.dtype
        if window < _LARGE or alone:
            launcher.each(
                f"{method}_each", dtype, count, *arrays, *numbers, *more, *self._numbers
            )
            return
        lanes = _LANES if top.channels_last else 1
        threads = THREADS if top.channels_last else min(THREADS, 1 << (
            (window - 1).bit_length()
        ))  # fmt: skip
        launcher.blocks(
            f"{method}_block", dtype, -(-count // lanes), *arrays, *numbers, *more,
            lanes, *self._numbers, threads=threads,
        )  # fmt: skip

    # -- backward ------------------------------------------------------------------
    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose (or by ``mask``)."""
        winners = None
        if self.geometry.method == "max":
            winners = self._chosen(mask)
        if not dx.size:
            return
        top = self._ops.image_planes("y", dy)
        with self._ops.written_image_planes("x", dx) as image:
            each = self._ops.kernels("pooling").each
            if winners is None:
                each(
                    "average_backward", dx.dtype, dx.size, top.array, image.array,
                    dx.size, *order_of(image), *image.steps, *top.steps,
                    *self._numbers,
                )  # fmt: skip
            else:
                each(
                    "max_backward", dx.dtype, dx.size, top.array, winners,
                    image.array, dx.size, *order_of(image), *image.steps,
                    *top.steps, *kept_steps(self._winners, top), *self._numbers,
                )  # fmt: skip

    def _chosen(self, mask: Array | None) -> Array:
        """The winners of the last forward, or else those that the mask tells."""
        if self._winners.array is None and mask is not None and mask.size:
            places = self._ops.image_planes("mask", mask)
            winners = self._winners.plain()
            plain = order_numbers(places.channels, places.places, channels_last=False)
            self._ops.kernels("pooling").each(
                "mask_winners", mask.dtype, mask.size, places.array, winners,
                mask.size, *plain, *places.steps,
            )  # fmt: skip
            # Not what a forward chose: the next mask may say otherwise.
            self._winners = Kept(self._ops, winners.size, np.int32)
            return winners
        return self._winners.read("pooling backward needs a forward, or its mask")


class GpuPooling(GpuImagePlanes):
    """Makes pooling kernels."""

    def pooling(self, geometry: PoolGeometry) -> PoolKernel:
        """A pooling kernel for ``geometry``."""
        if geometry.method == "stochastic":
            return GpuStochasticPool(geometry, self)
        return GpuPool(geometry, self)
