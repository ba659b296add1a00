"""Recording where it gains nothing: the host calls its kernels directly."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HostReplay", "ReferenceCapture"]


class HostReplay:
    """Work that is simply done again.

    Args:
        work: what to do.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def run(self) -> None:
        """Do it."""
        self._work()


class ReferenceCapture:
    """`CaptureOps` of both CPU backends."""

    captures: bool = False

    def capture(self, work: Callable[[], None]) -> HostReplay:
        """Keep ``work``."""
        return HostReplay(work)
