"""Sums and products of whole arrays, and along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.backend.gpu.base import flat, is_dense
from poseidon_caffe.backend.gpu.joining import GpuJoining
from poseidon_caffe.backend.gpu.maps import GpuMaps, pack_count
from poseidon_caffe.backend.gpu.spread import spread_over
from poseidon_caffe.backend.gpu.sums import GpuSums
from poseidon_caffe.types import Array

__all__ = ["GpuElementwise"]

_MOST = 8  # sources of one pass, as in elementwise.cu
_Pass = Callable[[list[Array], Array, int], None]


class GpuElementwise(GpuSums, GpuJoining, GpuMaps):
    """`ElementwiseOps` on a GPU: arrays of any strides.

    Up to eight sources are combined in one pass over memory, more in further ones
    (with 16-bit storage what goes from pass to pass is rounded to it).
    """

    def clear(self, array: Array) -> None:
        """Set every element to zero, whatever the strides."""
        if is_dense(array):
            self.memory.clear(flat(array))
            return
        zeros = self.scratch.take("zeros", array.shape, array.dtype)
        self.memory.clear(zeros)
        self.copy(zeros, array)

    def place(self, src: Array, part: tuple[slice, ...], dst: Array) -> None:
        """dst = src in its ``part``, 0 around it."""
        self.clear(dst)
        self.copy(src, dst[part])

    def add(
        self,
        srcs: Sequence[Array],
        dst: Array,
        coeffs: Sequence[float],
        relu: float | None = None,
    ) -> None:
        """dst = relu?(sum coeffs[i] * srcs[i]); dst may be any of srcs."""
        left = [float(c) for c in coeffs]

        def one(parts: list[Array], out: Array, more: int) -> None:
            given, left[: len(parts)] = left[: len(parts)], [1.0]
            last = relu is not None and not more
            slope = float(relu or 0.0)
            factors = given + [0.0] * (_MOST - len(given))
            numbers = *factors, len(parts), last, slope, out.size
            self._combine("add", parts, out, *numbers)

        self._in_passes(srcs, dst, one)

    def multiply(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = product of srcs; dst may be any of srcs."""

        def one(parts: list[Array], out: Array, more: int) -> None:
            del more
            self._combine("multiply", parts, out, len(parts), out.size)

        self._in_passes(srcs, dst, one)

    def maximum(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = elementwise max; dst may be any of srcs."""
        count = len(srcs)

        def one(parts: list[Array], out: Array, more: int) -> None:
            going_on = len(parts) + more < count
            self._combine("largest", parts, out, len(parts), going_on, out.size)

        self._in_passes(srcs, dst, one)

    def _in_passes(self, srcs: Sequence[Array], dst: Array, one: _Pass) -> None:
        """Combine by passes of up to eight; ``one`` gets (sources, result, left)."""
        if dst.size == 0:
            return
        with self.alike(srcs, [dst]) as (ins, outs):
            left = [a for a in ins if a is not None]
            while len(left) > _MOST:
                # The result may be a source that is still to be read.
                name = f"pass {len(left) % 2}"
                between = self.scratch.take(name, (dst.size,), dst.dtype)
                one(left[:_MOST], between, len(left) - _MOST)
                left = [between, *left[_MOST:]]
            (out,) = outs
            assert out is not None
            one(left, out, 0)

    def _combine(
        self, kernel: str, parts: list[Array], out: Array, *numbers: float
    ) -> None:
        sources = [*parts, *[None] * (_MOST - len(parts))]
        self.kernels("elementwise").each(
            kernel, out.dtype, pack_count(out), *sources, out, *numbers
        )

    def maximum_backward(
        self, srcs: Sequence[Array], index: int, dy: Array, dx: Array
    ) -> None:
        """dx = dy where srcs[index] gave the maximum, else 0; dx may be dy.

        Ties go as in Caffe: to the second of the first two, else to the earlier.
        """
        if dx.size == 0:
            return
        with self.alike([*srcs, dy], [dx]) as (ins, (out,)):
            *sources, given = ins
            rivals = [i for i in range(len(srcs)) if i != index]
            for start in range(0, max(len(rivals), 1), _MOST):
                part = rivals[start : start + _MOST]
                ties = sum(_wins_tie(index, i) << k for k, i in enumerate(part))
                others = [sources[i] for i in part] + [None] * (_MOST - len(part))
                numbers = len(part), ties, dx.size
                self.kernels("elementwise").each(
                    "largest_backward", dx.dtype, dx.size,
                    sources[index], given, *others, out, *numbers,
                )  # fmt: skip
                given = out

    def scale_shift(
        self, x: Array, axis: int, scale: Array | None, shift: Array | None, y: Array
    ) -> None:
        """y = x * scale + shift, broadcast from ``axis`` on; in place allowed."""
        given = scale if scale is not None else shift
        if given is None:
            self.copy(x, y)
            return
        if y.size == 0:
            return
        spread = spread_over([y, x], axis, given.shape)
        params = [
            self.plain_params(param, y.dtype, name)
            for name, param in (("scale", scale), ("shift", shift))
            if param is not None
        ]
        kernel = "shift_only" if scale is None else "scale_only"
        if len(params) == 2:
            kernel = "scale_and_shift"
        with self.alike([x], [y], spread.order) as (ins, outs):
            self.each_spread(kernel, spread, y, *ins, *params, *outs)

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
        """The wanted ones of dx, dscale, dshift; dx, last, may be dy."""
        wanted = dshift, (dscale if x is not None else None)
        shapes = [out.shape for out in wanted if out is not None]
        times = x if wanted[1] is not None else None
        if len(set(shapes)) == 1:
            self.sum_spread(dy, times, axis, shapes[0], *wanted, accumulate=accumulate)
        else:
            for plain, product in ((wanted[0], None), (None, wanted[1])):
                out = plain if plain is not None else product
                if out is not None:
                    both = plain, product
                    self.sum_spread(
                        dy, times, axis, out.shape, *both, accumulate=accumulate
                    )
        if dx is not None:
            self.scale_shift(dy, axis, scale, None, dx)


def _wins_tie(index: int, other: int) -> bool:
    """Whether source ``index`` of a maximum is taken before an equal ``other``."""
    return index < other if max(index, other) > 1 else index == 1
