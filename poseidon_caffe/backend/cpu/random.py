"""Random fills on all threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.backend.reference.random import ReferenceRandom
from poseidon_caffe.backend.threads import ThreadPool

__all__ = ["CpuRandom"]


class CpuRandom(ReferenceRandom):
    """`RandomOps`: the reference's numbers, pieces drawn beside each other."""

    _pool: ThreadPool

    def _run_pieces(self, work: Sequence[Callable[[], None]]) -> None:
        threads = self._pool.threads

        def share(index: int) -> None:
            for piece in work[index::threads]:
                piece()

        self._pool.run([_bound(share, index) for index in range(threads)])


def _bound(share: Callable[[int], None], index: int) -> Callable[[], None]:
    return lambda: share(index)
