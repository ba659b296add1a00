"""Solver updates on oneDNN: SGD with momentum as two passes over cached pieces.

h = m h + a g + b w is one binary primitive with a sum after it (a and b are given
at run time, since the rate changes), w -= h a second one that finds its operands in
the cache.  The other rules run as NumPy pieces on a few threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive
from poseidon_caffe.backend.protocols import UpdateSegment
from poseidon_caffe.backend.reference.update import ReferenceUpdate
from poseidon_caffe.types import UpdateRule, UpdateStep

__all__ = ["CpuUpdate"]

#: Elements a pair of primitives works on: 6 MiB of data, gradient and history.
_PIECE_COUNT = 1 << 19
_FLOAT32 = np.dtype(np.float32)


class CpuUpdate(ReferenceUpdate):
    """`UpdateOps` with SGD's rule on oneDNN."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._pairs: dict[tuple[int, float], tuple[Primitive, Primitive]] = {}
        self._factors = (np.zeros(1, np.float32), np.zeros(1, np.float32))

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """Scale, regularise and apply ``rule`` to every segment."""
        others: list[UpdateSegment] = []
        for segment in segments:
            if rule.heavy_ball is not None and _fast(segment):
                self._heavy_ball(rule.heavy_ball, segment)
            else:
                others.append(segment)
        if others:
            super().update(rule, step, others)

    def _heavy_ball(self, momentum: float, segment: UpdateSegment) -> None:
        gradient, decay = self._factors
        gradient[0] = segment.local_rate * segment.scale
        decay[0] = segment.local_rate * segment.decay
        (history,) = segment.history
        for start in range(0, segment.data.size, _PIECE_COUNT):
            part = slice(start, start + _PIECE_COUNT)
            w, g, h = segment.data[part], segment.diff[part], history[part]
            accumulate, subtract = self._pair(w.size, momentum)
            accumulate(g, w, h, gradient, decay)
            subtract(w, h, w)

    def _pair(self, count: int, momentum: float) -> tuple[Primitive, Primitive]:
        """(h = momentum h + a g + b w, w = w - h) on ``count`` elements."""
        key = (count, momentum)
        if key not in self._pairs:
            dnnl = self.dnnl
            flat, one = dnnl.desc((count,), (1,)), dnnl.desc((1,), (1,))
            attr = dnnl.attr(sum_scale=momentum, scaled=(Arg.SRC, Arg.SRC_1))
            desc = dnnl.describe("binary", Alg.ADD, flat, flat, flat, attr=attr)
            operands: dict[int, Desc] = {
                Arg.SRC: flat, Arg.SRC_1: flat, Arg.DST: flat,
                Arg.SCALES | Arg.SRC: one, Arg.SCALES | Arg.SRC_1: one,
            }  # fmt: skip
            accumulate = Primitive(desc, operands)
            desc = dnnl.describe("binary", Alg.SUB, flat, flat, flat)
            operands = {Arg.SRC: flat, Arg.SRC_1: flat, Arg.DST: flat}
            self._pairs[key] = (accumulate, Primitive(desc, operands))
        return self._pairs[key]


def _fast(segment: UpdateSegment) -> bool:
    """Whether the primitives take the segment: float32, L2 decay or none."""
    arrays = (segment.data, segment.diff, *segment.history)
    plain = all(a.dtype == _FLOAT32 and a.flags.c_contiguous for a in arrays)
    return plain and not (segment.l1 and segment.decay) and bool(segment.data.size)
