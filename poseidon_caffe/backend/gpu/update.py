"""The solver's update: one launch for all parameters, whatever their number.

A table on the device tells the kernel where the numbers lie.  It is made anew only
when they lie elsewhere; what changes from step to step goes with the launch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.protocols import UpdateSegment
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, RuleKernel, UpdateRule, UpdateStep

__all__ = ["GpuUpdate", "UpdateGuard"]

#: As in update.cu: elements of a block, rates and scales of a launch.
PIECE = 4096
KINDS = 8
_CONSTANTS = 4
_ALIGN_BYTES = 16
_KNOWN = frozenset({"sgd", "nesterov", "adagrad", "rmsprop", "adadelta", "adam"})
#: Tables kept: updates and norms of a solver or two.
_TABLES_MAX = 16

Row = tuple[int, ...]
Kind = tuple[float, float]


@dataclass(frozen=True)
class UpdateGuard:
    """What loss scaling has on the device for the next updates.

    Attributes:
        inverse: float32 (1,), a factor on all gradients; None: 1.
        skip: int32 (1,), not 0 when nothing shall be updated; None: never.
    """

    inverse: Array | None = None
    skip: Array | None = None


@dataclass(frozen=True)
class _Table:
    """Segments on the device, and how many blocks do them."""

    array: Array
    segments: int
    blocks: int


class GpuUpdate(GpuFamily):
    """`UpdateOps` on a GPU, for the rules that `RuleKernel` names.

    Attributes:
        guard: set by who scales the loss.
    """

    guard: UpdateGuard = UpdateGuard()

    def __init__(self) -> None:
        super().__init__()
        self._segment_tables: dict[tuple[Row, ...], _Table] = {}

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """Scale, regularise and apply ``rule`` to every segment, in one launch.

        More than 8 pairs of rate and scale take a launch for every 8.

        Raises:
            BackendError: the rule has no kernel.
        """
        kernel = _kernel_of(rule, step)
        constants = kernel.constants + (0.0,) * (_CONSTANTS - len(kernel.constants))
        by_dtype: dict[np.dtype, list[UpdateSegment]] = {}
        for segment in segments:
            if segment.data.size:
                by_dtype.setdefault(segment.data.dtype, []).append(segment)
        for dtype, members in by_dtype.items():
            for kinds, rows in _by_kinds(members):
                rates, scales = zip(*kinds, strict=True)
                table = self._segment_table(rows)
                self.kernels("update").blocks(
                    f"update_{kernel.name}", dtype, table.blocks,
                    table.array, table.segments, *constants, *rates, *scales,
                    self.guard.inverse, self.guard.skip,
                )  # fmt: skip

    def sumsq_of(self, arrays: Sequence[Array]) -> float:
        """Sum of squares over all arrays: two launches and one copy of 8 bytes."""
        parts = self.square_parts(arrays)
        if parts is None:
            return 0.0
        total = self.scratch.take("sumsq", (1,), np.float64)
        self.kernels("update").blocks(
            "sum_parts", arrays[0].dtype, 1, parts, parts.size, total
        )
        here = np.empty(1, np.float64)
        self.memory.download(total, here)
        return float(here[0])

    def square_parts(self, arrays: Sequence[Array]) -> Array | None:
        """Sums of squares of pieces of all arrays, or None when all are empty."""
        found = [array for array in arrays if array.size]
        if not found:
            return None
        table = self._segment_table(
            _rows_of([(a.size, (a, None, None, None)) for a in found])
        )
        parts = self.scratch.take("sumsq parts", (table.blocks,), np.float64)
        self.kernels("update").blocks(
            "sum_squares", found[0].dtype, table.blocks, table.array, table.segments,
            parts,
        )  # fmt: skip
        return parts

    def _segment_table(self, rows: Sequence[Row]) -> _Table:
        """The rows on the device, from the last time if nothing moved."""
        key = tuple(rows)
        if key not in self._segment_tables:
            if len(self._segment_tables) >= _TABLES_MAX:
                self._segment_tables.clear()
            values = np.array(key, np.int64).reshape(-1)
            array = self.memory.zeros(values.size, np.int64)
            self.memory.upload(values, array)
            blocks = sum(_blocks(row[4]) for row in rows)
            self._segment_tables[key] = _Table(array, len(rows), blocks)
        return self._segment_tables[key]


def _kernel_of(rule: UpdateRule, step: UpdateStep) -> RuleKernel:
    """What the rule calls itself; BackendError for one that only Python knows."""
    named = getattr(rule, "kernel", None)
    kernel: RuleKernel | None = None if named is None else named(step)
    if kernel is None or kernel.name not in _KNOWN:
        name = type(rule).__name__ if kernel is None else f'"{kernel.name}"'
        raise BackendError(
            f"the update rule {name} has no GPU kernel (known: "
            f"{', '.join(sorted(_KNOWN))}); train on the CPU, or give the rule a "
            "kernel method that names one of these"
        )
    return kernel


def _by_kinds(
    segments: Sequence[UpdateSegment],
) -> Iterator[tuple[list[Kind], list[Row]]]:
    """(rate, scale) of each kind, KINDS of them, and the segments that have them."""
    kinds = list(dict.fromkeys(map(_kind, segments)))
    for start in range(0, len(kinds), KINDS):
        part = kinds[start : start + KINDS]
        numbers = {kind: i for i, kind in enumerate(part)}
        found = [s for s in segments if _kind(s) in numbers]
        rows = _rows_of(
            [(s.data.size, (s.data, s.diff, *_pair(s.history))) for s in found]
        )
        tails = [
            (numbers[_kind(s)], _bits(s.decay), int(s.l1), row[-1])
            for s, row in zip(found, rows, strict=True)
        ]
        merged = [(*row[:6], *tail) for row, tail in zip(rows, tails, strict=True)]
        yield part + [(0.0, 0.0)] * (KINDS - len(part)), merged


def _kind(segment: UpdateSegment) -> Kind:
    return float(segment.local_rate), float(segment.scale)


def _pair(history: Sequence[Array]) -> tuple[Array | None, Array | None]:
    arrays = (*history, None, None)
    return arrays[0], arrays[1]


def _rows_of(items: Sequence[tuple[int, Sequence[Array | None]]]) -> list[Row]:
    """Pointers, count, first block, then kind, decay and L1 of 0, and alignment."""
    rows: list[Row] = []
    block = 0
    for count, arrays in items:
        places = [0 if a is None else pointer(a) for a in arrays]
        wide = int(all(place % _ALIGN_BYTES == 0 for place in places))
        rows.append((*places, count, block, 0, 0, 0, wide))
        block += _blocks(count)
    return rows


def _blocks(count: int) -> int:
    return -(-count // PIECE)


def _bits(value: float) -> int:
    """A double's bits as an integer."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])
