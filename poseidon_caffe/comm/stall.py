"""Nobody waits for ever: a stall is told, then ends the job with its cause named."""

from __future__ import annotations

from collections.abc import Callable

from poseidon_caffe.comm.courier import FIRST_DATA_TAG, Courier, Waiting
from poseidon_caffe.comm.diagnosis import (
    Cause,
    Limits,
    Sign,
    Verdict,
    name_of,
    root_cause,
    speakers,
)
from poseidon_caffe.comm.heartbeat import HEARTBEAT_TAG, Heartbeat
from poseidon_caffe.comm.process import STOPPED_STATES
from poseidon_caffe.errors import ClusterError

__all__ = ["StallWatch"]

# A peer that is slow but goes on is told of ever more rarely.
_PATIENCE_GROWTH = 2
_LOOKS = 2


class StallWatch:
    """Warns of a stall and ends the job when it lasts; runs in the courier's thread.

    Args:
        courier: of this rank; told to fail.
        heartbeat: what the ranks say.
        limits: how long what is borne.
        tell: takes a line for people.

    Attributes:
        verdict: for which the job is ended, or None.
    """

    def __init__(
        self,
        courier: Courier,
        heartbeat: Heartbeat,
        limits: Limits,
        tell: Callable[[str], None],
    ) -> None:
        self.verdict: Verdict | None = None
        self._courier, self._heartbeat = courier, heartbeat
        self._limits, self._tell = limits, tell
        self._warn_after_s = limits.warning_s
        self._stopped = [0] * courier.size  # looks that found a rank stopped

    def check(self) -> None:
        """Look at everybody's signs; to be called after each tick of the heart."""
        if self.verdict is not None or self._courier.error is not None:
            return
        if self._heartbeat.clock.was_stopped:
            return  # this rank was: first let it hear what happened
        signs = self._heartbeat.signs()
        found = root_cause(self._courier.rank, signs, self._limits)
        self._tell_stops(signs)
        if found is None or self._is_borne(found):
            self._warn_after_s = self._limits.warning_s
        elif found.age_s >= self._limits.end_s:
            self._end(found)
        else:
            self._warn(signs[self._courier.rank], found)

    def _is_borne(self, found: Verdict) -> bool:
        """Whether this rank waits patiently for one that lives."""
        waiting = self._courier.waiting
        is_patient = waiting is not None and waiting.is_patient
        return is_patient and found.cause in {Cause.STUCK, Cause.DEADLOCK}

    def _end(self, found: Verdict) -> None:
        """Tell the others the reason before this rank goes."""
        self.verdict = found
        self._heartbeat.verdict = (found.ranks[0], found.cause)
        self._heartbeat.send()
        waiting = self._courier.waiting
        text = found.text
        if waiting is not None:
            text += f"; rank {self._courier.rank} waited for {self._awaited(waiting)}"
        self._courier.fail(ClusterError(text))

    def _warn(self, own: Sign, found: Verdict) -> None:
        waiting = self._courier.waiting
        if waiting is None or own.idle_s < self._limits.warning_s:
            self._warn_after_s = self._limits.warning_s
            return
        if own.idle_s < self._warn_after_s:
            return
        self._warn_after_s = max(own.idle_s, self._warn_after_s) * _PATIENCE_GROWTH
        self._tell(
            f"{name_of(own)} has waited {own.idle_s:.0f} s for "
            f"{self._awaited(waiting)}: {found.text}; the job is ended after "
            f"{self._limits.end_s:.3g} s of that"
        )

    def _tell_stops(self, signs: list[Sign]) -> None:
        """A stopped neighbour is told of at once, by one rank, when two looks agree."""
        rank = self._courier.rank
        for sign in signs:
            if sign.process not in STOPPED_STATES or sign.has_left:
                self._stopped[sign.rank] = 0
                continue
            self._stopped[sign.rank] += 1
            if self._stopped[sign.rank] == _LOOKS and rank == speakers(rank, signs)[0]:
                self._tell(
                    f"rank {rank}: {name_of(sign)} is stopped (SIGSTOP); "
                    f"after {self._limits.end_s:.3g} s the job is ended"
                )

    def _awaited(self, waiting: Waiting) -> str:
        """What is waited for, with what has been open for longest."""
        label = waiting.label
        peer = None if waiting.peer == self._courier.rank else waiting.peer
        if peer is not None and f"rank {peer}" not in label:
            label += f" of rank {peer}"
        open_ = [
            transfer
            for transfer in self._courier.pending()
            if not transfer.is_send
            and transfer.tag != HEARTBEAT_TAG
            and peer in {None, transfer.peer}
        ]
        # Rows say more than small talk, which may be due any time.
        open_ = [t for t in open_ if t.tag >= FIRST_DATA_TAG] or open_
        if not open_:
            return label
        oldest = min(open_, key=lambda transfer: transfer.since_s)
        size_bytes = sum(transfer.size_bytes for transfer in open_)
        peers = ", ".join(map(str, sorted({transfer.peer for transfer in open_})))
        count = f"{len(open_)} messages" if len(open_) > 1 else "a message"
        return (
            f"{label} ({count} of {size_bytes} bytes due from rank {peers}, first "
            f"{oldest.label})"
        )
