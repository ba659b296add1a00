"""Copies, sums and slices on oneDNN: strided copies are its reorders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Arg, Desc, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.layout import alike, dense, describable, supported
from poseidon_caffe.backend.reference.batch_norm import same_memory
from poseidon_caffe.backend.reference.elementwise import (
    ReferenceElementwise,
    slices_along,
)
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuElementwise"]

_SMALL_COUNT = 4096
_USE_STORED_SCALE_SHIFT = 1 | 2 | 4


class CpuElementwise(ReferenceElementwise):
    """`ElementwiseOps` with large copies, sums and affine maps on oneDNN."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._reorders: dict[tuple[Shape, Shape, Shape], Primitive] = {}
        self._sums: dict[tuple[int, tuple[float, ...]], Primitive] = {}
        self._affine: dict[tuple[Shape, Shape], Primitive] = {}
        self._zeros_ones: dict[int, tuple[Array, Array]] = {}

    def _move(self, src: Array, dst: Array) -> None:
        """dst[...] = src of one shape; large four-axis copies run in parallel."""
        if src.size < _SMALL_COUNT or not describable(src, dst):
            dst[...] = src
            return
        key = (src.shape, src.strides, dst.strides)
        run = self._reorders.get(key)
        if run is None:
            source, target = self.dnnl.desc_of(src), self.dnnl.desc_of(dst)
            run = self._reorders[key] = self.dnnl.reorder(source, target)
        run(src, dst)

    def copy(self, src: Array, dst: Array) -> None:
        """dst[...] = src (same shape, or same count in C order)."""
        if src.shape == dst.shape:
            if not same_memory(src, dst):
                self._move(src, dst)
        elif dst.flags.c_contiguous:
            self._move(src, dst.reshape(src.shape))
        elif src.flags.c_contiguous:
            self._move(src.reshape(dst.shape), dst)
        else:
            super().copy(src, dst)

    def add(self, srcs: Sequence[Array], dst: Array, coeffs: Sequence[float]) -> None:
        """dst = sum coeffs[i] * srcs[i]; dst may be any of srcs."""
        if dst.size < _SMALL_COUNT or not alike(dst, *srcs):
            super().add(srcs, dst, coeffs)
            return
        # oneDNN writes over its first source only.
        order = sorted(range(len(srcs)), key=lambda i: not same_memory(srcs[i], dst))
        sources = [srcs[i] for i in order]
        scales = tuple(float(coeffs[i]) for i in order)
        if sum(same_memory(src, dst) for src in sources) > 1:
            super().add(srcs, dst, coeffs)
            return
        key = (dst.size, scales)
        run = self._sums.get(key)
        if run is None:
            flat = self.dnnl.desc((dst.size,), (1,))
            run = self.dnnl.sum(flat, scales, [flat] * len(srcs))
            self._sums[key] = run
        run(*sources, dst)

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""
        for piece, src in slices_along(dst, axis, srcs, [s.shape[axis] for s in srcs]):
            self._move(src, piece)

    def split(
        self,
        src: Array,
        axis: int,
        dsts: Sequence[Array | None],
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Cut along ``axis`` into dsts; None skips that part."""
        if sizes is None or sum(sizes) != src.shape[axis]:
            super().split(src, axis, dsts, sizes)
            return
        for piece, dst in slices_along(src, axis, dsts, sizes):
            self._move(piece, dst)

    def scale_shift(
        self, x: Array, axis: int, scale: Array | None, shift: Array | None, y: Array
    ) -> None:
        """y = x * scale + shift, broadcast from ``axis`` on; in place allowed."""
        per_channel = (
            scale is not None
            and axis == 1
            and scale.ndim == 1
            and supported(x)
            and alike(x, y)
        )
        if not per_channel or scale is None:
            super().scale_shift(x, axis, scale, shift, y)
            return
        zeros, ones = self._constants(scale.size)
        run = self._affine_for(x)
        run(x, y, zeros, ones, scale, zeros if shift is None else shift)

    def _constants(self, count: int) -> tuple[Array, Array]:
        if count not in self._zeros_ones:
            self._zeros_ones[count] = (
                np.zeros(count, np.float32),
                np.ones(count, np.float32),
            )
        return self._zeros_ones[count]

    def _affine_for(self, x: Array) -> Primitive:
        """A batch normalisation with mean 0, variance 1 and no epsilon."""
        key = (x.shape, x.strides)
        if key not in self._affine:
            data, one = self.dnnl.desc_of(x), self.dnnl.desc((x.shape[1],), (1,))
            desc = self.dnnl.describe(
                "batch_normalization_forward", Prop.INFERENCE, data, data, 0.0,
                _USE_STORED_SCALE_SHIFT,
            )  # fmt: skip
            operands: dict[int, Desc] = {
                Arg.SRC: data, Arg.DST: data, Arg.MEAN: one, Arg.VARIANCE: one,
                Arg.SCALE: one, Arg.SHIFT: one,
            }  # fmt: skip
            self._affine[key] = Primitive(desc, operands)
        return self._affine[key]

    def first_bad(self, x: Array) -> int:
        """C-order index of the first NaN or infinity, -1 when all are finite."""
        # A finite sum of float32 in double precision hides no NaN or infinity.
        with np.errstate(invalid="ignore"):
            if dense(x) and np.isfinite(x.sum(dtype=np.float64)):
                return -1
        return super().first_bad(x)
