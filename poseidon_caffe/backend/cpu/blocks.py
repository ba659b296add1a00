"""Elementwise NumPy code in blocks that stay in the cache, on several threads.

A NumPy expression of k steps over arrays larger than the cache passes through memory
k times, on one thread.  The same steps over 64 KiB at a time pass through it once,
and NumPy releases the interpreter's lock while it works.
"""

from __future__ import annotations

from collections.abc import Callable

from poseidon_caffe.backend.cpu.layout import flat_together
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array

__all__ = ["BLOCK_COUNT", "in_blocks"]

BLOCK_COUNT = 1 << 14
"""Elements of a block: 64 KiB of float32; a few of them fit a core's L2 cache."""

_THREAD_COUNT = 1 << 16  # elements that are worth waking a thread for


def in_blocks(
    pool: ThreadPool,
    function: Callable[..., None],
    arrays: tuple[Array, ...],
    *more: object,
) -> None:
    """``function(*arrays, *more)``, block by block if the arrays lie alike.

    Args:
        pool: its threads share the blocks.
        function: treats every element by itself, whatever the shape.
        arrays: of one shape; outputs may be inputs.
        more: numbers, handed on.
    """
    flat = flat_together(*arrays) if arrays[0].size > BLOCK_COUNT else None
    if flat is None:
        function(*arrays, *more)
        return
    count = flat[0].size
    pieces = max(1, min(pool.threads, count // _THREAD_COUNT))
    ends = [count * i // pieces for i in range(pieces + 1)]

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, BLOCK_COUNT):
            part = slice(first, min(first + BLOCK_COUNT, stop))
            function(*(array[part] for array in flat), *more)

    if pieces == 1:
        work(0, count)
        return
    pool.run([_bound(work, ends[i], ends[i + 1]) for i in range(pieces)])


def _bound(
    work: Callable[[int, int], None], start: int, stop: int
) -> Callable[[], None]:
    return lambda: work(start, stop)
