"""Copies, sums and products of whole arrays or along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.reference.workspace import same_memory
from poseidon_caffe.errors import ShapeError
from poseidon_caffe.types import Array

__all__ = ["ReferenceElementwise", "beats", "slices_along"]

_PIECE = 1 << 16


def slices_along(
    array: Array, axis: int, parts: Sequence[Array | None], sizes: Sequence[int]
) -> list[tuple[Array, Array]]:
    """(slice of ``array``, part) for each part that is given.

    Parts that already are their slice, memory and all, are left out.
    """
    whole = np.moveaxis(array, axis, 0)
    pairs, start = [], 0
    for part, size in zip(parts, sizes, strict=True):
        piece = np.moveaxis(whole[start : start + size], 0, axis)
        start += size
        if part is not None and not same_memory(piece, part):
            pairs.append((piece, part))
    return pairs


def beats(index: int, other: int) -> np.ufunc:
    """How source ``index`` of a maximum must compare with ``other`` to be taken.

    Of the first two the second wins a tie, afterwards whoever came first.
    """
    wins_ties = index < other if max(index, other) > 1 else index == 1
    return np.greater_equal if wins_ties else np.greater


def _overlaps(dst: Array, srcs: Sequence[Array]) -> bool:
    """Whether writing ``dst`` early would spoil a source that is read later."""
    return any(np.may_share_memory(dst, src) for src in srcs[1:])


class ReferenceElementwise:
    """`ElementwiseOps` in NumPy; arrays may have any strides."""

    def copy(self, src: Array, dst: Array) -> None:
        """dst[...] = src (same shape, or same count in C order)."""
        if src.shape != dst.shape:
            src = src.reshape(dst.shape)
        if not same_memory(src, dst):
            dst[...] = src

    def clear(self, array: Array) -> None:
        """Set every element to zero, whatever the strides."""
        array[...] = 0

    def place(self, src: Array, part: tuple[slice, ...], dst: Array) -> None:
        """dst = src in its ``part``, 0 around it; every element is written once."""
        region = [slice(None)] * dst.ndim
        for axis, kept in enumerate(part):
            for outside in (slice(0, kept.start), slice(kept.stop, None)):
                dst[(*region[:axis], outside, *region[axis + 1 :])] = 0
            region[axis] = kept
        self.copy(src, dst[part])

    def add(
        self,
        srcs: Sequence[Array],
        dst: Array,
        coeffs: Sequence[float],
        relu: float | None = None,
    ) -> None:
        """dst = relu?(sum coeffs[i] * srcs[i]); dst may be any of srcs."""
        out = np.empty_like(dst) if _overlaps(dst, srcs) else dst
        np.multiply(srcs[0], coeffs[0], out=out)
        for src, coeff in zip(srcs[1:], coeffs[1:], strict=True):
            out += src if coeff == 1.0 else src * src.dtype.type(coeff)
        if relu is not None:
            np.multiply(out, relu, out=out, where=out < 0)
        if out is not dst:
            dst[...] = out

    def multiply(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = product of srcs; dst may be any of srcs."""
        if len(srcs) == 1:
            self.copy(srcs[0], dst)
            return
        out = np.empty_like(dst) if _overlaps(dst, srcs[1:]) else dst
        np.multiply(srcs[0], srcs[1], out=out)
        for src in srcs[2:]:
            out *= src
        if out is not dst:
            dst[...] = out

    def maximum(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = elementwise max; dst may be any of srcs."""
        if len(srcs) == 1:
            self.copy(srcs[0], dst)
            return
        out = np.empty_like(dst) if _overlaps(dst, srcs[1:]) else dst
        out[...] = np.where(srcs[0] > srcs[1], srcs[0], srcs[1])
        for src in srcs[2:]:
            np.copyto(out, src, where=src > out)
        if out is not dst:
            dst[...] = out

    def maximum_backward(
        self, srcs: Sequence[Array], index: int, dy: Array, dx: Array
    ) -> None:
        """dx = dy where srcs[index] gave the maximum, else 0; dx may be dy.

        Ties go as in Caffe: to the second of the first two, else to the earlier.
        """
        won = np.ones(dy.shape, bool)
        for i, other in enumerate(srcs):
            if i != index:
                won &= beats(index, i)(srcs[index], other)
        np.multiply(dy, won, out=dx)

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""
        for piece, src in slices_along(dst, axis, srcs, [s.shape[axis] for s in srcs]):
            piece[...] = src

    def sum_copies(self, src: Array, axis: int, copies: int, dst: Array) -> None:
        """dst = the sum of ``copies`` equal parts of ``src`` along ``axis``."""
        shape = dst.shape
        parts = src.reshape(*shape[:axis], copies, *shape[axis:])
        np.sum(parts, axis=axis, out=dst)

    def split(
        self,
        src: Array,
        axis: int,
        dsts: Sequence[Array | None],
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Cut along ``axis`` into dsts; None skips that part.

        Raises:
            ShapeError: the lengths do not add up.
        """
        if sizes is None:
            sizes = _sizes(src, axis, dsts)
        if sum(sizes) != src.shape[axis]:
            msg = f"axis {axis} of shape {src.shape} cannot be cut into {list(sizes)}"
            raise ShapeError(msg)
        for piece, dst in slices_along(src, axis, dsts, sizes):
            dst[...] = piece

    def scale_shift(
        self, x: Array, axis: int, scale: Array | None, shift: Array | None, y: Array
    ) -> None:
        """y = x * scale + shift, broadcast from ``axis`` on; in place allowed."""
        if scale is not None:
            np.multiply(x, _from_axis(scale, axis, x.ndim), out=y)
        else:
            self.copy(x, y)
        if shift is not None:
            y += _from_axis(shift, axis, x.ndim)

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
        if dshift is not None:
            self.sum_outer(dy, axis, dshift.shape, dshift, accumulate=accumulate)
        if dscale is not None and x is not None:
            shape = dscale.shape
            self.sum_outer(x, axis, shape, dscale, dy, accumulate=accumulate)
        if dx is not None:
            self.scale_shift(dy, axis, scale, None, dx)

    def sum_outer(
        self, x: Array, axis: int, shape: tuple[int, ...], out: Array,
        times: Array | None = None, *, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """out (+)= x [* times] summed over all axes but axis..axis+len(shape)."""
        kept = range(axis, axis + len(shape))
        axes = tuple(i for i in range(x.ndim) if i not in kept)
        product = x if times is None else x * times
        total = product.sum(axis=axes, dtype=np.float64).reshape(out.shape)
        if accumulate:
            out += total.astype(out.dtype)
        else:
            out[...] = total

    def first_bad(self, x: Array) -> int:
        """C-order index of the first NaN or infinity, -1 when all are finite."""
        finite = np.isfinite(x)
        return -1 if finite.all() else int(np.argmin(finite.reshape(-1)))

    def asum(self, x: Array) -> float:
        """Sum of absolute values, accumulated in double precision."""
        return float(np.abs(x).sum(dtype=np.float64))

    def sumsq(self, x: Array) -> float:
        """Sum of squares, accumulated in double precision."""
        flat = x.ravel(order="K")
        total = 0.0
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE].astype(np.float64, copy=False)
            total += float(np.dot(piece, piece))
        return total


def _from_axis(values: Array, axis: int, ndim: int) -> Array:
    """``values`` with its axes at ``axis`` and after, ready to broadcast."""
    return values.reshape(values.shape + (1,) * (ndim - axis - values.ndim))


def _sizes(src: Array, axis: int, dsts: Sequence[Array | None]) -> list[int]:
    """Lengths of all parts; those of skipped ones follow from the rest."""
    given = sum(d.shape[axis] for d in dsts if d is not None)
    skipped = sum(d is None for d in dsts)
    share = (src.shape[axis] - given) // skipped if skipped else 0
    return [share if d is None else d.shape[axis] for d in dsts]
