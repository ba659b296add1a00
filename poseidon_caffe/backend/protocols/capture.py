"""Recording work once, to start all of it by one call (CUDA graphs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["CaptureOps", "Replay"]


class Replay(Protocol):
    """Recorded work."""

    def run(self) -> None:
        """Do all of it, on the arrays that it was recorded with."""


class CaptureOps(Protocol):
    """Records what kernels do."""

    @property
    def captures(self) -> bool:
        """Whether this backend can, and gains by it."""

    def capture(self, work: Callable[[], None]) -> Replay:
        """Record what ``work`` asks of this backend, without doing it.

        ``work`` must have run before, and must not read arrays on the host nor
        write them there.

        Raises:
            BackendError: the work cannot be recorded; nothing of it has been done.
        """
