"""Rows: what one message of the parameter server holds, and who owns it.

Pure arithmetic: every rank computes the same list from the same net, so that nothing
about rows ever travels.  A parameter slot is flat here.  Slots are taken in the order
in which backward completes them; small neighbours are merged into one bucket, so that
no message is mostly latency, and every bucket is cut into equal parts, one for each
owner, so that all of them serve the same bytes (in Poseidon's first version a table
of one row put every parameter on one machine).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import ParamSlot

__all__ = ["Piece", "Row", "cut"]

# Parts of more elements than this begin at multiples of `_ALIGN` elements, a cache
# line of float32: vector code then needs no heads and tails.
_BIG_ELEMENTS = 256
_ALIGN = 16
# A bucket with less than this for each owner goes to one of them whole: cutting it
# would cost more messages than it saves bytes.
_WHOLE_BYTES = 512


@dataclass(frozen=True)
class Piece:
    """A stretch of one parameter.

    Attributes:
        slot: index of the parameter.
        start: first of its elements, the parameter seen flat.
        stop: one past the last element.
    """

    slot: int
    start: int
    stop: int


@dataclass(frozen=True)
class Row:
    """What travels in one message: to its owner as gradient, back as values.

    Attributes:
        index: position among the rows, ordered as backward completes them.
        owner: rank of the server.
        pieces: what it holds, in this order; at most one piece of a slot.
        priority: first layer that needs any of it; smaller is more urgent.
        is_mean: holds statistics, which are averaged instead of learned.
        dtype: name of the elements' type, ``float32``.
    """

    index: int
    owner: int
    pieces: tuple[Piece, ...]
    priority: int
    is_mean: bool
    dtype: str

    @cached_property
    def count(self) -> int:
        """Elements in all pieces together."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of one message."""
        return self.count * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Bucket:
    """Slots of one kind, neighbours in readiness, seen as one flat array."""

    slots: tuple[ParamSlot, ...]
    is_mean: bool
    dtype: str

    @property
    def count(self) -> int:
        return sum(math.prod(slot.shape) for slot in self.slots)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def ready_after(self) -> int:
        """Layer whose backward completes the first of the slots."""
        return self.slots[0].ready_after

    def pieces(self, start: int, stop: int) -> tuple[Piece, ...]:
        """The stretch [start, stop) of the bucket in terms of its slots."""
        found = []
        base = 0
        for slot in self.slots:
            count = math.prod(slot.shape)
            first, last = max(start - base, 0), min(stop - base, count)
            if first < last:
                found.append(Piece(slot.index, first, last))
            base += count
        return tuple(found)


def cut(
    slots: Sequence[ParamSlot],
    dtypes: Mapping[int, str],
    owners: Sequence[int],
    *,
    merge_bytes: int,
    row_bytes: int,
) -> list[Row]:
    """Cut slots into rows and deal them to their owners.

    Every element of every slot is in exactly one row.  The owners' bytes differ by
    no more than one uncut bucket or two cache lines, whichever is more.

    Args:
        slots: the parameters that travel by rows, in any order.
        dtypes: type of each slot's elements by its index, ``float32``.
        owners: ranks that serve, all different.
        merge_bytes: neighbours are merged until a bucket has as much; 0: never.
        row_bytes: no row is larger, unless it is a single element.

    Returns:
        Rows in the order in which backward completes them.

    Raises:
        ClusterError: there is nobody to own rows, or ``row_bytes`` is not positive.
    """
    if not owners or len(set(owners)) != len(owners):
        problem = f"rows need owners that differ. Received: {list(owners)}"
        raise ClusterError(problem)
    if row_bytes < 1:
        raise ClusterError(f"row_bytes must be at least 1. Received: {row_bytes}")
    first_reader = {slot.index: min(slot.readers) for slot in slots}
    load_bytes = dict.fromkeys(owners, 0)
    rows: list[Row] = []
    for bucket in _buckets(slots, dtypes, merge_bytes):
        for owner, start, stop in _deal(bucket, load_bytes, row_bytes):
            pieces = bucket.pieces(start, stop)
            priority = min(first_reader[piece.slot] for piece in pieces)
            row = Row(len(rows), owner, pieces, priority, bucket.is_mean, bucket.dtype)
            load_bytes[owner] += row.size_bytes
            rows.append(row)
    return rows


def _buckets(
    slots: Sequence[ParamSlot], dtypes: Mapping[int, str], merge_bytes: int
) -> list[_Bucket]:
    """Neighbours merged, kinds kept apart; ordered by readiness."""
    kinds: dict[tuple[bool, str], list[ParamSlot]] = {}
    for slot in sorted(slots, key=lambda slot: (-slot.ready_after, slot.index)):
        if math.prod(slot.shape):
            kind = slot.statistics, np.dtype(dtypes[slot.index]).name
            kinds.setdefault(kind, []).append(slot)
    buckets: list[_Bucket] = []
    for (is_mean, dtype), members in kinds.items():
        open_slots: list[ParamSlot] = []
        size_bytes = 0
        for slot in members:
            open_slots.append(slot)
            size_bytes += math.prod(slot.shape) * np.dtype(dtype).itemsize
            if size_bytes >= merge_bytes:
                buckets.append(_Bucket(tuple(open_slots), is_mean, dtype))
                open_slots, size_bytes = [], 0
        if open_slots:
            buckets.append(_Bucket(tuple(open_slots), is_mean, dtype))
    return sorted(buckets, key=lambda bucket: -bucket.ready_after)


def _deal(
    bucket: _Bucket, load_bytes: Mapping[int, int], row_bytes: int
) -> Iterator[tuple[int, int, int]]:
    """(owner, start, stop) for each part; ``load_bytes`` grows in between."""
    owners = list(load_bytes)
    size_bytes = bucket.count * bucket.itemsize
    if size_bytes < _WHOLE_BYTES * len(owners) and size_bytes <= row_bytes:
        yield min(owners, key=load_bytes.__getitem__), 0, bucket.count
        return
    bounds = _bounds(bucket, len(owners), row_bytes)
    for first in range(0, len(bounds) - 1, len(owners)):
        parts = list(zip(bounds[first:], bounds[first + 1 :], strict=False))
        parts = parts[: len(owners)]
        # The larger of the nearly equal parts for those who have less so far.
        by_load = sorted(owners, key=load_bytes.__getitem__)
        by_size = sorted(range(len(owners)), key=lambda i: parts[i][0] - parts[i][1])
        owner_of = dict(zip(by_size, by_load, strict=True))
        for i, (start, stop) in enumerate(parts):
            if start < stop:
                yield owner_of[i], start, stop


def _bounds(bucket: _Bucket, owners: int, row_bytes: int) -> list[int]:
    """Where equal parts begin and end: a whole number of rounds over the owners."""
    largest = max(row_bytes // bucket.itemsize, 1)
    big = bucket.count > owners * _BIG_ELEMENTS and largest >= _ALIGN
    unit = _ALIGN if big else 1
    units = -(-bucket.count // unit)
    parts = owners * -(-units // (owners * (largest // unit)))
    return [min(unit * (units * i // parts), bucket.count) for i in range(parts + 1)]
