"""Normalisation of each image, or each of its channels, by its own moments."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.gpu.fields import Field
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.gpu.planes import GpuPlanes, Planes
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuMoments"]


class GpuMoments(GpuPlanes):
    """`MomentOps` on a GPU: two readings of x, and of y and dy."""

    def mean_variance(
        self, x: Array, y: Array, kept: int, eps: float, deviation: Array | None
    ) -> None:
        """y = (x - mean) / deviation; in place allowed."""
        if not x.size:
            return
        kernels = self.kernels("moments")
        with self.planes(1, [x], [y]) as planes:
            field = _field(planes, x.shape, kept)
            groups, slots = field.all_groups, field.slots()
            parts = self.scratch.take("moments", (groups, slots, 3), np.float64)
            mean, factor = self.scratch.take(
                "moments of groups", (2, groups), param_dtype(x.dtype)
            )
            source, out = planes.reads[0], planes.writes[0]
            field.run(kernels, "moments", x, slots, source, parts)
            field.finish(
                kernels, "finish_moments", x, parts, mean, None, deviation, None,
                float(eps), factor, groups, slots,
            )  # fmt: skip
            field.run(
                kernels, "normalise", x, None, source, out, None, mean, factor, None, 0
            )

    def mean_variance_backward(
        self, y: Array, dy: Array, dx: Array, kept: int, deviation: Array | None
    ) -> None:
        """dx = (dy - mean of dy - y mean of (y dy)) / deviation; dx may be dy."""
        if not y.size:
            return
        kernels = self.kernels("moments")
        with self.planes(1, [y, dy], [dx]) as planes:
            field = _field(planes, y.shape, kept)
            groups, slots = field.all_groups, field.slots()
            parts = self.scratch.take("moments", (groups, slots, 2), np.float64)
            coefficients = self.scratch.take(
                "coefficients of groups", (3, groups), param_dtype(y.dtype)
            )
            normed = None if deviation is None else planes.reads[0]
            slope, out = planes.reads[1], planes.writes[0]
            field.run(
                kernels, "products", y, slots, normed, slope, None, None, None, parts
            )
            field.finish(
                kernels, "finish_products", y, parts, None, deviation, None, 0.0,
                float(field.members), 0, coefficients, None, None, groups, slots,
            )  # fmt: skip
            field.run(
                kernels, "correct", y, None, normed, slope, out, None, coefficients,
                None, None, groups,
            )  # fmt: skip


def _field(planes: Planes, shape: Shape, kept: int) -> Field:
    assert math.prod(shape) > 0
    return Field.of_images(planes, shape[0], by_channel=kept > 1)
