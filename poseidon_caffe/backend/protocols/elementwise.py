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

    def maximum(self, srcs: Sequence[Array], dst: Array, winner: Array | None) -> None:
        """dst = elementwise max; winner (int32) gets the index of who gave it.

        Ties go as in Caffe: to the second of the first two, else to the earlier.
        """

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""

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
