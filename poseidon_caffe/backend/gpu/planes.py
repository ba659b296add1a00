"""Arrays as (outer, classes, inner) in memory, their places in C order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from poseidon_caffe.backend.gpu.base import same_memory
from poseidon_caffe.backend.gpu.params import GpuParams
from poseidon_caffe.types import Array

__all__ = ["GpuPlanes", "Planes"]


class Planes(NamedTuple):
    """Arrays of one shape whose memory is (outer, classes, inner), C order.

    Attributes:
        reads: what was given to read.
        writes: what was given to write.
        outer: product of the axes before the classes' in memory.
        classes: length of the classes' axis.
        inner: product of the axes after it; 1 where memory is channels-last.
    """

    reads: list[Array]
    writes: list[Array]
    outer: int
    classes: int
    inner: int

    @property
    def places(self) -> int:
        """Predictions, each over all classes."""
        return self.outer * self.inner


class GpuPlanes(GpuParams):
    """How families that work along one axis see their arrays."""

    @contextmanager
    def planes(
        self, axis: int, reads: Sequence[Array], writes: Sequence[Array]
    ) -> Iterator[Planes]:
        """Arrays of one shape with the classes on ``axis``, in one order of memory.

        The places keep their C order, so that labels fit.  Either all are seen as
        they are (C order; channels-last with the classes as channels), or those that
        are not in C order go through scratch memory.
        """
        arrays = (*reads, *writes)
        shape = arrays[0].shape or (1,)
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        last = axis == 1 and not all(a.flags.c_contiguous for a in arrays)
        if last and all(_channels_last(a).flags.c_contiguous for a in arrays):
            yield Planes(list(reads), list(writes), outer * inner, shape[axis], 1)
            return
        held: list[Array] = []
        for i, array in enumerate(arrays):
            twin = next(
                (
                    h
                    for a, h in zip(arrays, held, strict=False)
                    if same_memory(a, array)
                ),
                None,
            )
            held.append(self._plain(i, array, fill=i < len(reads), twin=twin))
        ins, outs = held[: len(reads)], held[len(reads) :]
        yield Planes(ins, outs, outer, shape[axis], inner)
        for array, out in zip(writes, outs, strict=True):
            if out is not array:
                self.copy(out, array)

    def _plain(
        self, number: int, array: Array, *, fill: bool, twin: Array | None
    ) -> Array:
        if array.flags.c_contiguous:
            return array
        if twin is not None:
            return twin
        piece = self.scratch.take(f"planes {number}", array.shape, array.dtype)
        if fill:
            self.copy(array, piece)
        return piece


def _channels_last(array: Array) -> Array:
    """The array with its second axis last."""
    return array.transpose((0, *range(2, array.ndim), 1))
