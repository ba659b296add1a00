"""Sums whose terms are added in rank order, whatever order they come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["OrderedSum"]


class OrderedSum:
    """The sum of one array a worker, clock after clock.

    Floating point addition is not associative, so only a fixed order makes runs
    reproducible.  A worker's later terms wait in a queue.

    Args:
        count: number of workers.
        free: takes back private arrays that are used up.
    """

    def __init__(self, count: int, free: Callable[[Array], None]) -> None:
        self._waiting: list[deque[tuple[Array, bool]]] = [deque() for _ in range(count)]
        self._free = free
        self._next = 0
        self._total: Array | None = None
        self._is_private = False

    def add(self, worker: int, term: Array, *, is_private: bool = True) -> None:
        """Add a worker's next term, a flat array.

        Args:
            worker: 0-based.
            term: must stay as it is until it is used up.
            is_private: it may be overwritten.
        """
        self._waiting[worker].append((term, is_private))
        self._advance()

    @property
    def is_complete(self) -> bool:
        """Whether every worker's term is in."""
        return self._next == len(self._waiting)

    @property
    def missing(self) -> list[int]:
        """Workers whose terms are waited for."""
        late = range(self._next, len(self._waiting))
        return [worker for worker in late if not self._waiting[worker]]

    @property
    def total(self) -> Array:
        """The sum, once complete; it may be overwritten."""
        assert self._total is not None
        return self._total

    def reset(self) -> None:
        """Begin the next clock's sum."""
        if self._total is not None and self._is_private:
            self._free(self._total)
        self._total, self._next = None, 0
        self._advance()

    def _advance(self) -> None:
        while not self.is_complete and self._waiting[self._next]:
            term, is_private = self._waiting[self._next].popleft()
            self._next += 1
            if self._total is None:
                self._total, self._is_private = term, is_private
            elif self._is_private:
                np.add(self._total, term, out=self._total)
                if is_private:
                    self._free(term)
            else:
                out = term if is_private else None
                self._total = np.add(self._total, term, out=out)
                self._is_private = True
