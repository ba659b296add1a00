"""The solver's update: one pass over memory, in pieces that fit the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from poseidon_caffe.backend.protocols import ElementwiseOps, UpdateSegment
from poseidon_caffe.types import Array, UpdateRule, UpdateStep

__all__ = [
    "PIECE_COUNT",
    "ReferenceUpdate",
    "divide_work",
    "update_pieces",
]

#: Elements updated at once.  Measured on 61 M parameters with two threads: 87 ms at
#: 32 Ki, 54 at 64 Ki, 45 at 128 Ki and 256 Ki (third-level cache), 48 at 512 Ki.
PIECE_COUNT = 131072

Piece: TypeAlias = tuple[UpdateSegment, int, int]


def divide_work(
    segments: Sequence[UpdateSegment], workers: int, piece: int = PIECE_COUNT
) -> list[list[Piece]]:
    """Cut segments into (segment, start, stop) pieces for each worker.

    Every worker gets a stretch of about the same number of elements.
    """
    pieces = [
        (segment, start, min(start + piece, segment.data.size))
        for segment in segments
        for start in range(0, segment.data.size, piece)
    ]
    total = sum(segment.data.size for segment in segments)
    groups: list[list[Piece]] = [[] for _ in range(max(workers, 1))]
    done = 0
    for item in pieces:
        groups[min(done * len(groups) // max(total, 1), len(groups) - 1)].append(item)
        done += item[2] - item[1]
    return [group for group in groups if group]


def update_pieces(rule: UpdateRule, step: UpdateStep, pieces: Sequence[Piece]) -> None:
    """Make each piece's gradient ready in scratch and apply ``rule`` to it.

    ``segment.diff`` keeps the raw gradient: writing the final value back, as
    Caffe does, would cost one more pass over memory.
    """
    scratch: dict[np.dtype, tuple[Array, Array]] = {}
    for segment, start, stop in pieces:
        data, diff = segment.data[start:stop], segment.diff[start:stop]
        if data.dtype not in scratch:
            scratch[data.dtype] = (
                np.empty(PIECE_COUNT, data.dtype),
                np.empty(PIECE_COUNT, data.dtype),
            )
        gradient, penalty = (a[: stop - start] for a in scratch[data.dtype])
        np.multiply(diff, segment.scale, out=gradient)
        if segment.decay != 0.0:
            if segment.l1:
                np.sign(data, out=penalty)
                penalty *= segment.decay
            else:
                np.multiply(data, segment.decay, out=penalty)
            gradient += penalty
        rule.apply(
            data,
            gradient,
            [history[start:stop] for history in segment.history],
            local_rate=segment.local_rate,
            step=step,
        )


class ReferenceUpdate:
    """`UpdateOps`: single-threaded unless a backend has threads.

    Attributes:
        threads: how many pieces of work `parallel` runs at once.
    """

    threads: int = 1

    def parallel(self, work: Sequence[Callable[[], None]]) -> None:
        """Run independent pieces of work, here one after the other."""
        for piece in work:
            piece()

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """Scale, regularise and apply ``rule`` to every segment."""
        groups = divide_work(segments, self.threads)
        self.parallel([partial(update_pieces, rule, step, group) for group in groups])

    def sumsq_of(self: ElementwiseOps, arrays: Sequence[Array]) -> float:
        """Sum of squares over all arrays, one after the other."""
        return sum((self.sumsq(array) for array in arrays), 0.0)
