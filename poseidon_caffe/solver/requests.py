"""Stops and snapshots that somebody asked for, and what all workers agreed on."""

from __future__ import annotations

from poseidon_caffe.types import GradientSync

__all__ = ["Requests"]

_STOP, _SNAPSHOT = 1, 2
# A signal that mpirun hands on may reach ranks some iterations apart: for so many
# iterations after a snapshot was agreed upon, a further wish is taken for its echo.
_ECHO_ITERS = 5


class Requests:
    """Wishes of this process (signals, users) become decisions of all workers.

    Only `ask_stop` and `ask_snapshot` may be called by signal handlers and other
    threads.

    Args:
        is_alone: one process, whose wish to stop counts at once.
    """

    def __init__(self, *, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._stop_asked = self._snapshot_asked = False
        self._agreed = 0
        self._echo_left_iters = 0

    def ask_stop(self) -> None:
        """Stop after the present iteration, or test batch."""
        self._stop_asked = True

    def ask_snapshot(self) -> None:
        """Write a snapshot after the present iteration."""
        self._snapshot_asked = True

    def agree(self, sync: GradientSync) -> None:
        """Tell the others and learn what to do; once at the end of each iteration."""
        bits = 0
        # Never cleared before it was seen set: a handler may run between two lines.
        if self._stop_asked:
            self._stop_asked, bits = False, bits | _STOP
        if self._snapshot_asked:
            self._snapshot_asked, bits = False, bits | _SNAPSHOT
        agreed = sync.agree(bits)
        if self._echo_left_iters:
            self._echo_left_iters -= 1
            agreed &= ~_SNAPSHOT
        elif agreed & _SNAPSHOT and not self._is_alone:
            self._echo_left_iters = _ECHO_ITERS
        self._agreed |= agreed

    @property
    def must_stop(self) -> bool:
        """Whether to go no further: agreed upon, or (alone) just asked for."""
        return bool(self._agreed & _STOP) or (self._is_alone and self._stop_asked)

    def take_snapshot(self) -> bool:
        """Whether a snapshot is agreed upon; it is answered with this."""
        is_due = bool(self._agreed & _SNAPSHOT)
        self._agreed &= ~_SNAPSHOT
        return is_due

    def clear_stop(self) -> None:
        """It has been obeyed."""
        self._stop_asked = False
        self._agreed &= ~_STOP
