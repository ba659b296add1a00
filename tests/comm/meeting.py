"""Ranks as threads that meet: what `Board` does, without a transport."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["Meeting", "meet"]


class Meeting:
    """`all_gather` and `broadcast` between threads; each has its own number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=10)
        self._local = threading.local()
        self._posted: list[bytes] = [b""] * size

    def join(self, rank: int) -> None:
        """This thread is ``rank`` from now on."""
        self._local.rank = rank

    def all_gather(self, topic: int, payload: bytes) -> list[bytes]:
        """Everybody's payload in rank order."""
        self._posted[self._local.rank] = payload
        self._barrier.wait()
        found = list(self._posted)
        self._barrier.wait()
        return found

    def broadcast(self, topic: int, payload: bytes | None) -> bytes:
        """Rank 0's payload."""
        return self.all_gather(topic, payload or b"")[0]


def meet(size: int, play: Callable[[Meeting, int], Any]) -> list[Any]:
    """What ``play(meeting, rank)`` returned or raised on each of ``size`` ranks."""
    meeting = Meeting(size)

    def run(rank: int) -> Any:
        meeting.join(rank)
        try:
            return play(meeting, rank)
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
