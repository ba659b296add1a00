"""``caffe.Timer``: a stopwatch, for scripts that time nets."""

from __future__ import annotations

import time

__all__ = ["Timer"]


class Timer:
    """Measures wall-clock time between `start` and `stop`, or now while it runs."""

    def __init__(self) -> None:
        self._started_s: float | None = None
        self._elapsed_s = 0.0

    def start(self) -> None:
        """Start (or start again) from zero."""
        self._started_s = time.perf_counter()

    def stop(self) -> None:
        """Stop; the time stays readable."""
        if self._started_s is not None:
            self._elapsed_s = time.perf_counter() - self._started_s
            self._started_s = None

    @property
    def ms(self) -> float:
        """Milliseconds measured; stops a running timer, as Caffe's does."""
        self.stop()
        return self._elapsed_s * 1e3
