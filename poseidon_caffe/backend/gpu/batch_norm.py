"""Batch normalisation, with scale, shift and ReLU in the same pass."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.gpu.base import same_memory
from poseidon_caffe.backend.gpu.fields import Field
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.gpu.planes import GpuPlanes, Planes
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["GpuBatchNorm", "GpuBatchNormalisation"]


class GpuBatchNorm:
    """`BatchNormKernel` in CUDA: x is read twice, y written once.

    A forward in place keeps a copy of x for backward, which the pass that overwrites
    it writes.  Backward of a ReLU reads nothing more: the sign of what went into it
    follows from x.
    """

    def __init__(self, geometry: BatchNormGeometry, family: GpuPlanes) -> None:
        self.geometry, self._family = geometry, family
        self._kernels = family.kernels("moments")
        self._kept: Array | None = None
        #: What forward multiplied by and added, for the ReLU's backward.
        self._factor: Array | None = None
        self._shift: Array | None = None

    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]."""
        g = self.geometry
        if not x.size:
            if not g.use_stored:
                self._family.memory.clear(mean)
                self._family.memory.clear(var)
            return
        times, plus = (scale, shift) if g.affine else (None, None)
        overwrites = same_memory(x, y)
        with self._planes([x], [y]) as planes:
            field, source = Field.of_channels(planes), planes.reads[0]
            slots = field.slots()
            parts = None if g.use_stored else self._parts(field, slots, 3)
            if parts is not None:
                field.run(self._kernels, "moments", x, slots, source, parts)
            factor = self._forward_factor(field, x)
            self._shift = plus
            field.finish(
                self._kernels, "finish_moments", x, parts, mean, var, None, times,
                float(g.eps), factor, field.groups, slots,
            )  # fmt: skip
            kept = self._keep(x) if overwrites and self._backward_reads_x else None
            field.run(
                self._kernels, "normalise", x, None, source, planes.writes[0], kept,
                mean, factor, plus, g.relu,
            )  # fmt: skip

    @property
    def _backward_reads_x(self) -> bool:
        g = self.geometry
        return not g.inference and (g.affine or g.relu or not g.use_stored)

    def _forward_factor(self, field: Field, x: Array) -> Array:
        """What elements are multiplied by: kept where backward wants it again."""
        if not self.geometry.relu or self.geometry.inference:
            factor: Array = self._per_group("bn factor", 1, field, x)[0]
            return factor
        dtype = param_dtype(x.dtype)
        if self._factor is None or self._factor.dtype != dtype:
            self._factor = self._family.memory.zeros(field.groups, dtype)
        return self._factor

    def _keep(self, x: Array) -> Array:
        """Where x goes, in the order of memory that the pass has it in."""
        if self._kept is None or self._kept.dtype != x.dtype:
            self._kept = self._family.memory.zeros(x.size, x.dtype)
        return self._kept

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
        """dx from dy; dscale and dshift are overwritten."""
        g = self.geometry
        if not dy.size:
            self._clear(dscale, dshift)
            return
        factor, shift = self._rectified()
        reads_x = dscale is not None or not g.use_stored or g.relu
        with self._planes([x, dy], [dx]) as planes:
            field = Field.of_channels(planes)
            source = self._source(planes, in_place=in_place) if reads_x else None
            slope, slots = planes.reads[1], field.slots()
            parts = None
            if reads_x or dshift is not None:
                parts = self._parts(field, slots, 2)
                field.run(
                    self._kernels, "products", dy, slots, source, slope, mean, factor,
                    shift, parts,
                )  # fmt: skip
            coefficients = self._per_group("bn coefficients", 3, field, dy)
            field.finish(
                self._kernels, "finish_products", dy, parts, var, None, scale,
                float(g.eps), float(field.members), g.use_stored, coefficients,
                dscale, dshift, field.groups, slots,
            )  # fmt: skip
            field.run(
                self._kernels, "correct", dy, None,
                None if g.use_stored and not g.relu else source, slope,
                planes.writes[0], mean, coefficients, factor, shift, field.groups,
            )  # fmt: skip

    def _rectified(self) -> tuple[Array | None, Array | None]:
        """Factor and shift of a forward that ended in a ReLU, else None twice."""
        if not self.geometry.relu:
            return None, None
        if self._factor is None:
            raise BackendError("backward of batch norm with a ReLU needs a forward")
        return self._factor, self._shift

    # -- pieces --------------------------------------------------------------------
    def _planes(
        self, reads: list[Array], writes: list[Array]
    ) -> AbstractContextManager[Planes]:
        return self._family.planes(1, reads, writes)

    def _parts(self, field: Field, slots: int, numbers: int) -> Array:
        shape = (field.groups, slots, numbers)
        return self._family.scratch.take("moments", shape, np.float64)

    def _per_group(self, name: str, count: int, field: Field, x: Array) -> Array:
        shape = (count, field.groups)
        return self._family.scratch.take(name, shape, param_dtype(x.dtype))

    def _source(self, planes: Planes, *, in_place: bool) -> Array:
        """The forward's input, in the order of memory that the passes have."""
        if not in_place:
            return planes.reads[0]
        if self._kept is None:
            raise BackendError(
                "batch norm backward in place needs a forward in place first"
            )
        return self._kept

    def _clear(self, *arrays: Array | None) -> None:
        for array in arrays:
            if array is not None:
                self._family.memory.clear(array)


class GpuBatchNormalisation(GpuPlanes):
    """Makes batch normalisation kernels."""

    def batch_norm(self, geometry: BatchNormGeometry) -> GpuBatchNorm:
        """A batch normalisation kernel for ``geometry``."""
        return GpuBatchNorm(geometry, self)
