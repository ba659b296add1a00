"""Pieces of a batch on all threads, each thread with oneDNN to itself.

For chains of primitives on what stays in the cache: primitives on all threads would
wait for each other after each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from poseidon_caffe.backend.cpu.dnnl import Dnnl
from poseidon_caffe.backend.threads import ThreadPool

__all__ = ["in_shares"]


def in_shares(
    pool: ThreadPool,
    dnnl: Dnnl,
    count: int,
    step: int,
    work: Callable[[int, slice], None],
) -> None:
    """``work(thread, piece)`` for every piece of at most ``step`` of 0..count.

    Args:
        pool: the threads; a single piece keeps oneDNN's own threads.
        dnnl: the library.
        count: things to share out.
        step: things at once.
        work: gets the number of its thread, from 0 on, and its piece.
    """
    if count <= step:
        work(0, slice(0, count))
        return
    pieces = -(-count // step)
    shares = min(pool.threads, pieces)

    def share(index: int) -> None:
        dnnl.set_threads(1)
        for i in range(pieces * index // shares, pieces * (index + 1) // shares):
            work(index, slice(i * step, min((i + 1) * step, count)))

    try:
        pool.run([partial(share, index) for index in range(shares)])
    finally:
        # This thread took part; the others do nothing else.
        dnnl.set_threads(pool.threads)
