"""What Ctrl-C and SIGHUP do to a running solver."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

__all__ = ["EarlyInterrupt", "SignalActions", "Stoppable"]


class Stoppable(Protocol):
    """What a solver offers to signal handlers."""

    def request_stop(self) -> None:
        """Stop after the present iteration."""

    def request_snapshot(self) -> None:
        """Write a snapshot after the present iteration."""


class EarlyInterrupt:
    """While entered, a Ctrl-C is remembered as well as raised.

    Some compiled modules lose a KeyboardInterrupt that reaches them while they are
    imported (numpy.random's do); training would then go on as if nobody had asked.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> Self:
        """Take over Python's own handler; does nothing outside the main thread."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with contextlib.suppress(ValueError):
                self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put Python's handler back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came and got lost."""
        if self._came:
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt


class SignalActions:
    """While entered, signals become requests to the solver.

    A second SIGINT after one that stops raises KeyboardInterrupt: the person does
    not want to wait.

    Under mpirun two more count, which it hands on to all ranks: of any other signal it
    makes SIGTERM, and SIGKILL a moment later.

    Args:
        solver: gets the requests.
        sigint: "stop", "snapshot" or "none".
        sighup: the same for SIGHUP.
        is_rank: SIGUSR1 does what SIGINT does, SIGUSR2 what SIGHUP does.
    """

    def __init__(
        self, solver: Stoppable, sigint: str, sighup: str, *, is_rank: bool = False
    ) -> None:
        self._solver = solver
        effects = {"SIGINT": sigint, "SIGHUP": sighup}
        if is_rank:
            effects |= {"SIGUSR1": sigint, "SIGUSR2": sighup}
        self._effects = {
            int(getattr(signal, name)): effect
            for name, effect in effects.items()
            if hasattr(signal, name)
        }
        self._stopping = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers; does nothing outside the main thread."""
        with contextlib.suppress(ValueError):
            for number in self._effects:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        effect = self._effects[number]
        if effect == "stop":
            if self._stopping and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stopping = True
            self._solver.request_stop()
        elif effect == "snapshot":
            self._solver.request_snapshot()
