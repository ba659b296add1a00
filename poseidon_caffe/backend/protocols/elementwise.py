"""Copies, sums and products of whole arrays or along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["ElementwiseOps"]


class ElementwiseOps(Protocol):
    """Copies, sums and products of whole arrays or along the channel axis."""

    def copy(self, src: Array, dst: Array) -> None:
        """dst[...] = src (layouts may differ; same shape, or same count in C order)."""

    def clear(self, array: Array) -> None:
        """Set every element to zero, whatever the strides."""

    def place(self, src: Array, part: tuple[slice, ...], dst: Array) -> None:
        """dst = src in its ``part``, one slice an axis with both ends, 0 around it."""

    def add(
        self,
        srcs: Sequence[Array],
        dst: Array,
        coeffs: Sequence[float],
        relu: float | None = None,
    ) -> None:
        """dst = sum coeffs[i] * srcs[i]; dst may be any of srcs.

        With ``relu`` a ReLU of that negative slope follows in the same pass.
        """

    def multiply(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = product of srcs; dst may be srcs[0]."""

    def maximum(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = elementwise max; dst may be any of srcs."""

    def maximum_backward(
        self, srcs: Sequence[Array], index: int, dy: Array, dx: Array
    ) -> None:
        """dx = dy where srcs[index] gave the maximum, else 0; dx may be dy.

        Ties go as in Caffe: to the second of the first two, else to the earlier.
        """

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""

    def sum_copies(self, src: Array, axis: int, copies: int, dst: Array) -> None:
        """dst = the sum of ``copies`` equal parts of ``src`` along ``axis``."""

    def split(
        self,
        src: Array,
        axis: int,
        dsts: Sequence[Array | None],
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Cut along ``axis`` into dsts; None skips that part.

        ``sizes`` are the lengths of all parts.  Without it skipped parts share
        equally what the others leave.
        """

    def scale_shift(
        self, x: Array, axis: int, scale: Array | None, shift: Array | None, y: Array
    ) -> None:
        """y = x * scale + shift, broadcast from ``axis`` on; in place allowed."""

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
        """Gradients of `scale_shift`, those that are given.

        Args:
            x: what was scaled; only read for ``dscale``.
            dy: of any shape.
            axis: that from which scale and shift are spread.
            scale: None is 1 everywhere.
            dx: dy * scale; may be ``dy``.
            dscale: x * dy summed, of scale's shape.
            dshift: dy summed, of shift's shape.
            accumulate: dscale and dshift are added to.
        """

    def sum_outer(
        self, x: Array, axis: int, shape: tuple[int, ...], out: Array,
        times: Array | None = None, *, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """out (+)= x [* times] summed over all axes but axis..axis+len(shape)."""

    def first_bad(self, x: Array) -> int:
        """C-order index of the first NaN or infinity, -1 when all are finite."""

    def asum(self, x: Array) -> float:
        """Sum of absolute values."""

    def sumsq(self, x: Array) -> float:
        """Sum of squares, accumulated in double precision."""
