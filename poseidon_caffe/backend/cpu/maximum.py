"""The largest of several arrays, and who gave it, on oneDNN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.cpu.blocks import in_blocks
from poseidon_caffe.backend.cpu.chain import DnnlChain, each
from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.backend.cpu.layout import alike
from poseidon_caffe.backend.cpu.sums import CpuSums
from poseidon_caffe.backend.reference.elementwise import beats
from poseidon_caffe.backend.reference.workspace import same_memory
from poseidon_caffe.types import Array

__all__ = ["CpuMaximum"]


class CpuMaximum(DnnlChain, CpuSums):
    """The maximum of `ElementwiseOps`: two arrays at a time."""

    def maximum(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = elementwise max; dst may be any of srcs."""
        later = any(same_memory(dst, src) for src in srcs[2:])
        if len(srcs) == 1 or later or not alike(dst, *srcs):
            run = super().maximum
            in_blocks(
                self._pool, lambda *arrays: run(arrays[1:], arrays[0]), (dst, *srcs)
            )
            return
        largest = self._chain(dst.size, each(Alg.MAX))
        # Of numbers that compare as neither, the primitive takes the second operand,
        # as "first > second ? first : second" does.
        largest(srcs[0], srcs[1], dst)
        for src in srcs[2:]:
            largest(src, dst, dst)

    def maximum_backward(
        self, srcs: Sequence[Array], index: int, dy: Array, dx: Array
    ) -> None:
        """dx = dy where srcs[index] gave the maximum, else 0; dx may be dy."""
        if len(srcs) == 1 or not alike(dy, dx, *srcs):
            run = super().maximum_backward

            def one_block(dy: Array, dx: Array, *parts: Array) -> None:
                run(parts, index, dy, dx)

            in_blocks(self._pool, one_block, (dy, dx, *srcs))
            return
        left = dy
        for i, other in enumerate(srcs):
            if i == index:
                continue
            wins = Alg.GE if beats(index, i) is np.greater_equal else Alg.GT
            run_one = self._chain(dy.size, each(wins), each(Alg.MUL))
            run_one(srcs[index], other, left, dx)
            left = dx
