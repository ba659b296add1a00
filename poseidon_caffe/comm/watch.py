"""Sees to it that a job that loses a rank ends soon and says why.

Three ways lead there: the stall watch ends a job in which nothing moves; a process
that is gone from this machine ends it at once; and mpirun, which ends the others as
soon as it misses a rank (SIGCONT at once, SIGTERM a quarter of a second later, SIGKILL
another quarter later), leaves just time for a line that tells which one it was.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.diagnosis import Cause, Limits, last_words, speakers
from poseidon_caffe.comm.heartbeat import Heartbeat
from poseidon_caffe.comm.process import ProcessWatch
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.stall import StallWatch

__all__ = ["LastWords", "Watchman"]

_EXIT_STATUS: Final = 128 + signal.SIGTERM
# So many ranks of a machine speak: one may be unable to, but not all need to.
_SPEAKERS = 2
# Others on this machine must still see this process while they look for who is gone.
_LINGER_S = 0.1
# Less than mpirun leaves between calling and ending; enough for an answer to come.
_ANSWER_S = 0.15
# A rank that fails waits so long for its last heartbeat to leave.
_PARTING_S = 0.2


class LastWords:
    """Writes why this rank is ended when SIGTERM comes, then leaves.

    Python runs signal handlers in the main thread, which may sit in a long kernel;
    so a thread of ours reads the numbers of signals from a pipe.  Other signals keep
    their handlers.  Outside the main thread nothing is installed.

    Args:
        compose: the line, given the ranks that did not answer, or None when there was
            no roll call.
        roll_call: asks all ranks to answer; returns how often each was heard so far.
        heard: the same now.
        tell: takes the line; None is none.
        leave: ends the process with an exit status.
    """

    def __init__(
        self,
        compose: Callable[[set[int] | None], str | None],
        roll_call: Callable[[], dict[int, int]],
        heard: Callable[[], dict[int, int]],
        tell: Callable[[str], None],
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._compose, self._roll_call, self._heard = compose, roll_call, heard
        self._tell, self._leave = tell, leave
        self._called: tuple[float, dict[int, int]] | None = None
        self._before: dict[int, Any] = {}
        self._former_fd = self._read_fd = self._write_fd = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen for SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        self._former_fd = signal.set_wakeup_fd(
            self._write_fd, warn_on_full_buffer=False
        )
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._before[number] = signal.signal(number, _leave_to_the_thread)
        self._thread = threading.Thread(
            target=self._listen, name="poseidon-last-words", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Put everything back as it was."""
        if self._thread is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        os.close(self._write_fd)
        self._thread.join()
        os.close(self._read_fd)
        self._thread = None

    def _listen(self) -> None:
        while numbers := os.read(self._read_fd, 64):
            if signal.SIGCONT in numbers:
                self._called = (time.monotonic(), self._roll_call())
            if signal.SIGTERM in numbers:
                self._end()

    def _end(self) -> None:
        words = self._compose(self._unheard())
        if words is not None:
            self._tell(words)
        time.sleep(_LINGER_S)
        self._leave(_EXIT_STATUS)

    def _unheard(self) -> set[int] | None:
        """Ranks that have not spoken since the call, when they had time to."""
        if self._called is None:
            return None
        if time.monotonic() - self._called[0] < _ANSWER_S:
            return set()
        before, now = self._called[1], self._heard()
        return {rank for rank, count in now.items() if count == before[rank]}


class Watchman:
    """All that watches over the ranks of a job; of each rank's main thread.

    A context manager: left in order it waits for the others' goodbye; left by an
    error it lets them know that this rank is at fault.

    Args:
        courier: started.
        settings: ``comm_timeout_s`` and ``stall_warning_s``.
        tell: takes a line for people, from any thread.
        interval_s: between two heartbeats.

    Attributes:
        heartbeat: what the ranks tell each other.
        beat: ``beat(iteration, layer)`` marks where the main thread is; costs nothing.
    """

    def __init__(
        self,
        courier: Courier,
        settings: ClusterSettings,
        tell: Callable[[str], None],
        *,
        interval_s: float = 0.5,
    ) -> None:
        # A fake network invents the process numbers: nothing to be seen there.
        real = courier.transport.pids[courier.rank] == os.getpid()
        self._courier = courier
        self._limits = Limits.of(settings, interval_s)
        watch = ProcessWatch if real else None
        self.heartbeat = Heartbeat(courier, self._limits, watch)
        self.beat = self.heartbeat.beat
        self._stall = StallWatch(courier, self.heartbeat, self._limits, tell)
        self._last_words = LastWords(
            self._compose, self._roll_call, self.heartbeat.heard, tell
        )
        self._is_watching = False

    def __enter__(self) -> Self:
        """`start`."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """`close`, or after an error `give_up`."""
        if error is None:
            self.close()
        else:
            self.give_up()

    def start(self) -> None:
        """Begin to watch; every rank has to, at about the same time."""
        self._is_watching = True
        self._courier.call(self._open)
        self._last_words.start()

    def name_layers(self, names: Sequence[str]) -> None:
        """Let messages name the net's layers, given in their order."""
        self.heartbeat.layers = tuple(names)

    def close(self) -> None:
        """Wait until every rank has come here, and watch no more.

        Raises:
            PoseidonError: one of them did not.
        """
        if not self._is_watching:
            return
        try:
            self._courier.call(self.heartbeat.leave)
            self._courier.wait_for(
                self.heartbeat.is_done,
                Waiting("the others' goodbye", self.heartbeat.awaited()),
            )
        finally:
            self._stop()

    def give_up(self) -> None:
        """This rank has failed: tell the others at once, and watch no more."""
        if not self._is_watching:
            return
        if self.heartbeat.verdict is None:
            self.heartbeat.verdict = (self._courier.rank, Cause.FAULT)
        has_left = threading.Event()

        def wait() -> None:
            if not self.heartbeat.is_sending():
                has_left.set()
            elif self._courier.error is None:
                self._courier.call(wait)

        self._courier.call(self.heartbeat.send)
        self._courier.call(wait)
        has_left.wait(_PARTING_S)
        self._stop()

    def _stop(self) -> None:
        self._is_watching = False
        self._last_words.close()

    # -- the courier's thread ----------------------------------------------------------
    def _open(self) -> None:
        self.heartbeat.open()
        self._courier.every(self._limits.interval_s, self._tick)

    def _tick(self) -> None:
        if self._is_watching:
            self.heartbeat.look_around()
            self._stall.check()
            self.heartbeat.send()

    # -- the thread of last words ------------------------------------------------------
    def _roll_call(self) -> dict[int, int]:
        heard = self.heartbeat.heard()
        self._courier.call(self.heartbeat.send)
        return heard

    def _compose(self, unheard: set[int] | None) -> str | None:
        rank, error = self._courier.rank, self._courier.error
        pause_s = self.heartbeat.clock.pause_s()
        if pause_s:
            return (
                f"rank {rank}: ended by mpirun: this rank itself was stopped, or "
                f"starved, for {pause_s:.0f} s"
            )
        if error is not None:
            return f"rank {rank}: ended by mpirun: {error}"
        signs = self.heartbeat.look()
        # Without a call by mpirun it is this rank alone that is being ended.
        if unheard is not None and rank not in speakers(rank, signs)[:_SPEAKERS]:
            return None
        return f"rank {rank}: {last_words(rank, signs, unheard or set(), self._limits)}"


def _leave_to_the_thread(_number: int, _frame: FrameType | None) -> None:
    """Keep the signal from its default effect; `LastWords` has got its number."""
