"""Concatenation and its reverse, by copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.errors import ShapeError
from poseidon_caffe.types import Array

__all__ = ["GpuJoining"]


class GpuJoining(GpuFamily):
    """`ElementwiseOps.concat` and ``split``; parts already in place are skipped."""

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``."""
        sizes = [src.shape[axis] for src in srcs]
        for src, place in zip(srcs, _places(dst, axis, sizes), strict=True):
            self.copy(src, place)

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
            given = [None if dst is None else dst.shape[axis] for dst in dsts]
            rest = src.shape[axis] - sum(n for n in given if n is not None)
            share = rest // max(given.count(None), 1)
            sizes = [share if n is None else n for n in given]
        if sum(sizes) != src.shape[axis]:
            msg = f"axis {axis} of shape {src.shape} cannot be cut into {list(sizes)}"
            raise ShapeError(msg)
        for place, dst in zip(_places(src, axis, sizes), dsts, strict=True):
            if dst is not None:
                self.copy(place, dst)


def _places(array: Array, axis: int, sizes: Sequence[int]) -> Iterator[Array]:
    """Views of consecutive parts of an axis."""
    before = (slice(None),) * (axis % array.ndim)
    for start, end in pairwise(accumulate(sizes, initial=0)):
        yield array[(*before, slice(start, end))]
