"""Copies, sums and slices on oneDNN: strided copies are its reorders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.cpu.chain import one
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.layout import alike, dense, describable, supported
from poseidon_caffe.backend.cpu.maximum import CpuMaximum
from poseidon_caffe.backend.reference.batch_norm import same_memory
from poseidon_caffe.backend.reference.elementwise import slices_along
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array, Shape

__all__ = ["CpuElementwise"]

_SMALL_COUNT = 4096
_USE_STORED_SCALE_SHIFT = 1 | 2 | 4


class CpuElementwise(CpuMaximum):
    """`ElementwiseOps` with large copies, sums and affine maps on oneDNN."""

    dnnl: Dnnl
    _pool: ThreadPool

    def __init__(self) -> None:
        super().__init__()
        self._reorders: dict[tuple[Shape, Shape, Shape], Primitive] = {}
        self._sums: dict[tuple[int, bool, float | None], Primitive] = {}
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

    def add(
        self,
        srcs: Sequence[Array],
        dst: Array,
        coeffs: Sequence[float],
        relu: float | None = None,
    ) -> None:
        """dst = relu?(sum coeffs[i] * srcs[i]); dst may be any of srcs.

        A chain of binary primitives: oneDNN 3.2's sum takes 2 to 10 times as long.
        """
        if len(srcs) == 1 and relu is None and alike(dst, *srcs):
            times = np.array(coeffs, np.float32)
            self._chain(dst.size, one(Alg.MUL))(srcs[0], times, dst)
            return
        within = [same_memory(src, dst) for src in srcs]
        fast = (
            len(srcs) > 1
            and dst.size >= _SMALL_COUNT
            and sum(within) <= 1
            and alike(dst, *srcs)
        )
        if not fast:
            super().add(srcs, dst, coeffs, relu)
            return
        # What lies in dst already must be read first.
        order = sorted(range(len(srcs)), key=lambda i: not within[i])
        total, factor = srcs[order[0]], float(coeffs[order[0]])
        for i in order[1:]:
            last = relu if i == order[-1] else None
            self._add_two(total, factor, srcs[i], float(coeffs[i]), dst, last)
            total, factor = dst, 1.0

    def _add_two(
        self, x: Array, a: float, y: Array, b: float, dst: Array, relu: float | None
    ) -> None:
        """dst = relu?(a x + b y); dst may be x."""
        scaled = a != 1.0 or b != 1.0
        key = (dst.size, scaled, relu)
        run = self._sums.get(key)
        if run is None:
            run = self._sums[key] = self._make_sum(dst.size, scaled=scaled, relu=relu)
        if scaled:
            run(x, y, dst, np.array([a], np.float32), np.array([b], np.float32))
        else:
            run(x, y, dst)

    def _make_sum(self, count: int, *, scaled: bool, relu: float | None) -> Primitive:
        flat, one = self.dnnl.desc((count,), (1,)), self.dnnl.desc((1,), (1,))
        both = (Arg.SRC, Arg.SRC_1)
        attr = self.dnnl.attr(relu=relu, scaled=both if scaled else ())
        desc = self.dnnl.describe("binary", Alg.ADD, flat, flat, flat, attr=attr)
        operands: dict[int, Desc] = {Arg.SRC: flat, Arg.SRC_1: flat, Arg.DST: flat}
        if scaled:
            operands |= {Arg.SCALES | operand: one for operand in both}
        return Primitive(desc, operands)

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
            axis == 1
            and (scale is None or scale.ndim == 1)
            and (shift is None or shift.ndim == 1)
            and supported(x)
            and alike(x, y)
        )
        if not per_channel:
            super().scale_shift(x, axis, scale, shift, y)
            return
        zeros, ones = self._constants(x.shape[1])
        factor = ones if scale is None else scale
        self._affine_for(x)(
            x, y, zeros, ones, factor, zeros if shift is None else shift
        )

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
