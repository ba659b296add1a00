"""Rows added up by number: sorted by where they go, a piece of memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["WIDE", "add_rows"]

WIDE = 64
"""Elements of the shortest rows that this is fast for."""

_WIDEST = 1 << 12  # elements of a row that are worth calls of their own
_BLOCK_COUNT = 1 << 16
_THREAD_COUNT = 1 << 20  # elements that are worth another thread
_OFTEN = 16  # rows for one place that are worth calls of their own


@dataclass(frozen=True)
class _Groups:
    """Rows that go to the same place.

    Attributes:
        order: numbers of the rows, sorted by where they go.
        named: the places, ascending.
        ends: where each group starts in ``order``, and the end of the last.
    """

    order: Array
    named: Array
    ends: Array

    @staticmethod
    def of(index: Array) -> _Groups:
        order = np.argsort(index, kind="stable")
        there = index[order]
        changes = np.flatnonzero(there[1:] != there[:-1]) + 1
        starts = np.concatenate([[0], changes])
        return _Groups(order, there[starts], np.append(starts, len(index)))


def add_rows(
    pool: ThreadPool, rows: Array, index: Array, sums: Array, *, accumulate: bool
) -> None:
    """sums[index[i]] (+)= rows[i].

    Args:
        pool: its threads share the places.
        rows: (M, W), M > 0.
        index: (M,), each in 0..R-1.
        sums: (R, W).
        accumulate: whether to add to ``sums``; else rows without a part become 0.
    """
    groups = _Groups.of(index)
    whole = rows.shape[1] >= _WIDEST
    work = _whole_rows if whole else _blocks_of_rows
    count = sums.size if whole else rows.size
    threads = max(1, min(pool.threads, count // _THREAD_COUNT))
    pieces: list[Callable[[], None]] = []
    for start, stop in _shares(groups, len(sums), threads):
        pieces.append(
            partial(work, rows, groups, sums, start, stop, accumulate=accumulate)
        )
    pool.run(pieces)


def _shares(groups: _Groups, places: int, threads: int) -> list[tuple[int, int]]:
    """Places for each thread: as many to write and rows to read for each."""
    costs = np.ones(places)
    costs[groups.named] += np.diff(groups.ends)
    done = np.cumsum(costs)
    shares = [done[-1] * i / threads for i in range(1, threads)]
    cuts = [0, *np.searchsorted(done, shares).tolist(), places]
    return list(itertools.pairwise(cuts))


def _whole_rows(
    rows: Array,
    groups: _Groups,
    sums: Array,
    start: int,
    stop: int,
    *,
    accumulate: bool,
) -> None:
    """Place by place: a row stays in the cache while more is added to it."""
    first, last = np.searchsorted(groups.named, (start, stop)).tolist()
    named = groups.named[first:last].tolist()
    ends = groups.ends.tolist()
    order = groups.order.tolist()
    before = start
    for group, place in enumerate(named, first):
        if not accumulate:
            sums[before:place] = 0
        before = place + 1
        target, begin = sums[place], ends[group]
        if not accumulate:
            target[...] = rows[order[begin]]
            begin += 1
        for number in order[begin : ends[group + 1]]:
            target += rows[number]
    if not accumulate:
        sums[before:stop] = 0


def _blocks_of_rows(
    rows: Array,
    groups: _Groups,
    sums: Array,
    start: int,
    stop: int,
    *,
    accumulate: bool,
) -> None:
    """Some places at a time: the first row of each, then the second ones."""
    if not accumulate:
        sums[start:stop] = 0
    first, last = np.searchsorted(groups.named, (start, stop)).tolist()
    begins, ends = groups.ends[first:last], groups.ends[first + 1 : last + 1]
    # The largest groups first: those that have a second, third ... row come first.
    chosen = np.argsort(begins - ends, kind="stable")
    named, begins = groups.named[first:last][chosen], begins[chosen]
    counts = ends[chosen] - begins
    step = max(1, _BLOCK_COUNT // rows.shape[1])
    total = np.empty((min(step, len(named)), rows.shape[1]), rows.dtype)
    more = np.empty_like(total)
    for at in range(0, len(named), step):
        part = slice(at, at + step)
        places = named[part]
        into, other = total[: len(places)], more[: len(places)]
        _add_groups(rows, groups.order, begins[part], counts[part], into, other)
        if accumulate:
            _take(sums, places, other)
            into += other
        sums[places] = into


def _add_groups(
    rows: Array, order: Array, begins: Array, counts: Array, into: Array, more: Array
) -> None:
    """Sums of groups, the largest first; ``more`` is working memory like ``into``."""
    _take(rows, order[begins], into)
    many = int(np.count_nonzero(counts > _OFTEN))
    for i in range(many):
        begin = int(begins[i])
        _add_many(rows, order[begin + 1 : begin + counts[i]], into[i])
    for turn in range(1, _OFTEN):
        end = int(np.count_nonzero(counts > turn))
        if end <= many:
            break
        _take(rows, order[begins[many:end] + turn], more[many:end])
        into[many:end] += more[many:end]


def _add_many(rows: Array, numbers: Array, into: Array) -> None:
    """into += all the rows of those numbers."""
    step = max(1, _BLOCK_COUNT // rows.shape[1])
    ones = np.ones(min(step, len(numbers)), rows.dtype)
    for at in range(0, len(numbers), step):
        part = rows[numbers[at : at + step]]
        into += ones[: len(part)] @ part


def _take(rows: Array, numbers: Array, into: Array) -> None:
    # "clip" writes straight into the target; "raise" would go through a buffer.
    np.take(rows, numbers, axis=0, out=into, mode="clip")
