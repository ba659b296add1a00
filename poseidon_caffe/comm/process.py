"""What the kernel tells of processes: another rank's life, and this one's pauses."""

from __future__ import annotations

import contextlib
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["GONE", "STOPPED_STATES", "ProcessWatch", "RunningClock", "machine_id"]

GONE: Final = "gone"
"""The process has ended, whether or not its parent has heard of it."""
STOPPED_STATES: Final = ("T", "t")
"""Stopped by a signal, or by a debugger."""

_ENDED = ("Z", "X", "x")
_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat counted from the state, which follows the name.
_START_FIELD = 19
_LATELY_S = 1.0


def machine_id(host: str) -> int:
    """A number that two ranks share only where one sees the other's process.

    Made of the host's name, the kernel's boot and the namespace of process numbers:
    containers of one machine count as several.
    """
    boot, namespace = "", 0
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    return zlib.crc32(f"{host}/{boot}/{namespace}".encode())


class ProcessWatch:
    """Watches one process by its number; needs no right but to read ``/proc``.

    A number that the system has given to a younger process counts as gone.

    Args:
        pid: the process, alive now; where it cannot be seen, nothing is ever said.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        found = _look(pid)
        self._born = found[1] if found else None

    def state(self) -> str:
        """Its letter in ``/proc`` ("R", "S", "T" ...), `GONE`, or "" when unknown."""
        if self._born is None:
            return ""
        found = _look(self.pid)
        if found is None or found[1] != self._born or found[0] in _ENDED:
            return GONE
        return found[0]


def _look(pid: int) -> tuple[str, str] | None:
    """(state, start time) of a process, None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text.rpartition(")")[2].split()
    return (fields[0], fields[_START_FIELD]) if len(fields) > _START_FIELD else None


class RunningClock:
    """Seconds in which this process ran: a stop (Ctrl-Z, SIGSTOP) does not count.

    Otherwise every rank of a job that was stopped and continued would find all the
    others silent for as long.

    Args:
        longest_s: between two calls of `tick`; what goes beyond it was a stop.
        clock: seconds, monotonic.

    Attributes:
        was_stopped: whether there was a stop before the last `tick`.
    """

    def __init__(
        self, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.was_stopped = False
        self._longest_s, self._clock = longest_s, clock
        self._last_s = clock()
        self._ran_s = 0.0
        self._pause_s, self._resumed_s = 0.0, -math.inf

    def tick(self) -> None:
        """To be called steadily, by one thread."""
        now_s = self._clock()
        passed_s = now_s - self._last_s
        self.was_stopped = passed_s > self._longest_s
        if self.was_stopped:
            self._pause_s, self._resumed_s = passed_s, now_s
        self._ran_s += min(passed_s, self._longest_s)
        self._last_s = now_s

    def now(self) -> float:
        """Seconds of running."""
        return self._ran_s + min(self._clock() - self._last_s, self._longest_s)

    def pause_s(self) -> float:
        """How long the stop was that ended within the last second; 0: none did."""
        now_s = self._clock()
        if now_s - self._last_s > self._longest_s:
            return now_s - self._last_s
        return self._pause_s if now_s - self._resumed_s < _LATELY_S else 0.0
