"""A small pool of threads for work that releases the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

__all__ = ["ThreadPool", "available_cores", "default_threads"]


def available_cores() -> int:
    """Cores this process may run on (its affinity, not the machine's count)."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def default_threads() -> int:
    """Threads to compute with: all cores, less one for data and communication.

    The one is kept back only where there are more than two cores.
    """
    cores = available_cores()
    return cores - 1 if cores > 2 else cores


class ThreadPool:
    """Runs pieces of work on ``threads`` threads, the caller's own among them.

    The other threads start with the first work that needs them.
    """

    def __init__(self, threads: int) -> None:
        self.threads = max(threads, 1)
        self._executor: ThreadPoolExecutor | None = None

    def run(self, work: Sequence[Callable[[], None]]) -> None:
        """Run all of ``work`` and return when every piece has ended.

        Raises:
            Exception: what the first failing piece (in order) raised; the
                others have ended by then.
        """
        if self.threads == 1 or len(work) <= 1:
            for piece in work:
                piece()
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                self.threads - 1, thread_name_prefix="poseidon-ops"
            )
        # Each in a copy of the caller's context, which holds NumPy's errstate.
        futures = [
            self._executor.submit(copy_context().run, piece) for piece in work[1:]
        ]
        failure: BaseException | None = None
        try:
            work[0]()
        except BaseException as error:  # noqa: BLE001
            # Raised below, when no piece still writes into the caller's arrays.
            failure = error
        for future in futures:
            # In this order: every future must be waited for.
            error_there = future.exception()
            failure = failure or error_there
        if failure is not None:
            raise failure

    def run_many(self, pieces: Sequence[Callable[[], None]]) -> None:
        """`run` for many small pieces: every thread takes as many neighbouring ones."""
        threads = min(self.threads, len(pieces))

        def share(i: int) -> Callable[[], None]:
            start, stop = (len(pieces) * j // threads for j in (i, i + 1))

            def work() -> None:
                for piece in pieces[start:stop]:
                    piece()

            return work

        self.run([share(i) for i in range(threads)])

    def close(self) -> None:
        """End the threads; a later `run` starts them again."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
