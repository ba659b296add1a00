"""Who is to blame when ranks wait: a pure function of what the ranks tell.

Every rank waits for others sooner or later; only one that is gone, stopped, silent,
or busy with something else for too long is at fault.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from poseidon_caffe.comm.process import GONE, STOPPED_STATES
from poseidon_caffe.comm.settings import ClusterSettings

__all__ = [
    "Cause",
    "Limits",
    "Sign",
    "Verdict",
    "last_words",
    "name_of",
    "root_cause",
    "speakers",
]

# Of the timeout this much is for the ranks to tell the reason and to be ended.
_FAREWELL_S = 4.0
_FAREWELL_PART = 0.3
_BEATS = 3


class Cause(IntEnum):
    """What is wrong; the values travel in heartbeats."""

    DIED = 1
    STOPPED = 2
    SILENT = 3
    CUT_OFF = 4
    STUCK = 5
    DEADLOCK = 6
    FAULT = 7


_PHRASES = {
    Cause.DIED: "died",
    Cause.STOPPED: "was stopped (SIGSTOP)",
    Cause.SILENT: "was silent",
    Cause.CUT_OFF: "was cut off from the network",
    Cause.STUCK: "was alive but did not go on",
    Cause.DEADLOCK: "waited for others that waited for it",
    Cause.FAULT: "ended with an error of its own",
}


@dataclass(frozen=True)
class Limits:
    """How long what is borne.

    Attributes:
        interval_s: between two heartbeats.
        silent_s: a rank not heard for longer counts as silent.
        warning_s: waiting for longer is told.
        end_s: after that the job is ended.
    """

    interval_s: float
    silent_s: float
    warning_s: float
    end_s: float

    @classmethod
    def of(cls, settings: ClusterSettings, interval_s: float = 0.5) -> Limits:
        """Those of a cluster; the end begins early, so that all is over in time."""
        timeout_s = settings.comm_timeout_s
        return cls(
            interval_s=interval_s,
            silent_s=max(6 * interval_s, timeout_s / 4),
            warning_s=settings.stall_warning_s,
            end_s=timeout_s - min(_FAREWELL_S, timeout_s * _FAREWELL_PART),
        )


@dataclass(frozen=True)
class Sign:
    """What one rank knows of another, or of itself.

    Attributes:
        rank, host, pid: who.
        silent_s: since its last heartbeat; 0 for oneself.
        process: its state on the same machine (`ProcessWatch.state`), or "".
        iteration: in which it is, from 0.
        layer: name of the layer it is at, "" outside of them.
        is_waiting: whether its main thread waits for a message.
        idle_s: since it last did something: computed, waited anew, got a message.
        awaits: ranks from which messages are due to it.
        has_left: whether it has said goodbye, its work done.
        blames: rank for whose sake it ends the job, None while it does not.
        blames_for: why it does so.
    """

    rank: int
    host: str = "localhost"
    pid: int = 0
    silent_s: float = 0.0
    process: str = ""
    iteration: int = 0
    layer: str = ""
    is_waiting: bool = False
    idle_s: float = 0.0
    awaits: frozenset[int] = frozenset()
    has_left: bool = False
    blames: int | None = None
    blames_for: Cause | None = None


@dataclass(frozen=True)
class Verdict:
    """Who is to blame, and for what.

    Attributes:
        cause: what is wrong.
        ranks: who; for `Cause.DEADLOCK` all that wait.
        age_s: for how long; infinite where there is nothing left to wait for.
        text: the same in words.
    """

    cause: Cause
    ranks: tuple[int, ...]
    age_s: float
    text: str


def root_cause(me: int, signs: Sequence[Sign], limits: Limits) -> Verdict | None:
    """Why this rank gets nothing, as well as it can know.

    Looked for in this order: ranks that are gone, stopped or silent; then, among
    those that others wait for, the one that has not moved for longest; then a ring
    of ranks that all wait.  A rank that only waits for the culprit is never blamed.

    Args:
        me: the rank that asks.
        signs: of all ranks, in their order.
        limits: what counts as silent.

    Returns:
        None while nobody is gone and ``me`` does not wait.
    """
    others = [sign for sign in signs if sign.rank != me and not sign.has_left]
    ended = _ended(others, signs)
    if ended is not None or not signs[me].is_waiting:
        return ended
    near = _reachable(me, signs)
    own = signs[me]
    stopped = [sign for sign in others if sign.process in STOPPED_STATES]
    if stopped:
        return _stopped(_prefer(near, stopped))
    silent = [sign for sign in others if sign.silent_s > limits.silent_s]
    if silent:
        return _cut_off(own, others, silent) or _silent(_prefer(near, silent))
    busy = [sign for sign in others if not sign.is_waiting]
    if busy:
        return _stuck(own, _prefer(near, busy))
    # What one said that is not heard any more may be true no longer.
    fading = [sign for sign in others if sign.silent_s > _BEATS * limits.interval_s]
    return _silent(fading) if fading else _deadlock(own, others)


def last_words(
    me: int, signs: Sequence[Sign], unheard: Collection[int], limits: Limits
) -> str:
    """Why this rank gets SIGTERM, as well as it can know in its last moment.

    Args:
        me: the rank that is being ended.
        signs: of all ranks; with the state of processes just now.
        unheard: ranks that have not answered a call of a moment ago.
        limits: what counts as silent.
    """
    asking = [replace(s, is_waiting=True) if s.rank == me else s for s in signs]
    found = root_cause(me, asking, limits)
    if found is not None and found.cause not in {Cause.STUCK, Cause.DEADLOCK}:
        return f"ended by mpirun: {found.text}"
    missing = [signs[rank] for rank in sorted(unheard) if not signs[rank].has_left]
    if missing:
        verb = "does not answer" if len(missing) == 1 else "do not answer"
        return (
            f"ended by mpirun: {_names(missing)} {verb}: "
            "ended, or on a machine that is down"
        )
    return (
        "ended by SIGTERM while all other ranks lived: sent by mpirun because of a "
        "rank that aborted the job, by the batch system or by a person"
    )


def name_of(sign: Sign) -> str:
    """A rank as people can find it: rank 2 (host b, pid 123)."""
    return f"rank {sign.rank} (host {sign.host}, pid {sign.pid})"


def speakers(me: int, signs: Sequence[Sign]) -> list[int]:
    """The ranks of this machine that can speak, ``me`` among them, in their order."""
    unable = ("", GONE, *STOPPED_STATES)
    return [s.rank for s in signs if s.rank == me or s.process not in unable]


def _names(signs: Sequence[Sign]) -> str:
    return " and ".join(name_of(sign) for sign in signs)


def _have(signs: Sequence[Sign]) -> str:
    return "has" if len(signs) == 1 else "have"


def _reachable(me: int, signs: Sequence[Sign]) -> set[int]:
    """Ranks that ``me`` waits for, or that those wait for, and so on."""
    found, open_ = {me}, [me]
    while open_:
        for peer in signs[open_.pop()].awaits - found:
            found.add(peer)
            open_.append(peer)
    return found - {me}


def _prefer(near: set[int], signs: Sequence[Sign]) -> list[Sign]:
    """Those of ``signs`` that are waited for, or all when none is."""
    return [sign for sign in signs if sign.rank in near] or list(signs)


def _ended(others: Sequence[Sign], signs: Sequence[Sign]) -> Verdict | None:
    """A rank that is gone, or for whose sake another one is ending the job."""
    gone = [s for s in others if s.process == GONE]
    # Whoever ended for another's sake is not the cause.
    first = [sign for sign in gone if sign.blames is None]
    if first:
        text = f"{_names(first)} {_have(first)} died"
        return Verdict(Cause.DIED, tuple(s.rank for s in first), math.inf, text)
    # Nor is the culprit itself, which hears of it, the one that found it out.
    said = [sign for sign in others if sign.blames is not None]
    said.sort(key=lambda sign: sign.blames == sign.rank)
    return _blamed(said[0], signs) if said else None


def _blamed(witness: Sign, signs: Sequence[Sign]) -> Verdict:
    """What ``witness`` found before it ended the job."""
    assert witness.blames is not None
    culprit = signs[witness.blames]
    cause = witness.blames_for or Cause.DIED
    text = f"{name_of(culprit)} {_PHRASES[cause]}"
    if culprit.rank != witness.rank:
        text += f", as rank {witness.rank} found"
    # A rank that failed tells its error and ends the job itself, if it still can.
    age_s = witness.idle_s if cause is Cause.FAULT else math.inf
    return Verdict(cause, (culprit.rank,), age_s, text)


def _stopped(stopped: Sequence[Sign]) -> Verdict:
    verb = "is" if len(stopped) == 1 else "are"
    age_s = max(sign.silent_s for sign in stopped)
    text = f"{_names(stopped)} {verb} stopped (SIGSTOP), silent for {age_s:.0f} s"
    return Verdict(Cause.STOPPED, tuple(s.rank for s in stopped), age_s, text)


def _silent(silent: Sequence[Sign]) -> Verdict:
    age_s = max(sign.silent_s for sign in silent)
    reason = "stopped, or its machine or network is down"
    if all(sign.process for sign in silent):
        reason = (
            "its process lives, but overloaded, cut off from the network, or in a "
            "call that lets no other thread run"
        )
    text = f"{_names(silent)} {_have(silent)} been silent for {age_s:.0f} s: {reason}"
    return Verdict(Cause.SILENT, tuple(s.rank for s in silent), age_s, text)


def _cut_off(
    own: Sign, others: Sequence[Sign], silent: Sequence[Sign]
) -> Verdict | None:
    """Not all other machines are down, but this one's network."""
    elsewhere = [sign for sign in others if sign.host != own.host]
    if len({s.host for s in elsewhere}) < 2 or not set(elsewhere) <= set(silent):
        return None
    age_s = min(sign.silent_s for sign in elsewhere)
    text = (
        f"{name_of(own)} has heard no other host for {age_s:.0f} s: "
        f"the network of {own.host} is down"
    )
    return Verdict(Cause.CUT_OFF, (own.rank,), age_s, text)


def _stuck(own: Sign, busy: Sequence[Sign]) -> Verdict:
    culprit = max(busy, key=lambda sign: sign.idle_s)
    where = f"layer {culprit.layer}" if culprit.layer else "outside the net's layers"
    text = (
        f"{name_of(culprit)} is alive but has been in iteration {culprit.iteration}, "
        f"{where}, for {culprit.idle_s:.0f} s"
    )
    age_s = min(own.idle_s, culprit.idle_s)
    return Verdict(Cause.STUCK, (culprit.rank,), age_s, text)


def _deadlock(own: Sign, others: Sequence[Sign]) -> Verdict:
    ring = sorted([own, *others], key=lambda sign: sign.rank)
    age_s = min(sign.idle_s for sign in ring)
    if not others:
        text = f"{name_of(own)} waits for ranks that have finished"
    else:
        text = (
            f"{_names(ring)} all wait for one another and nothing has come for "
            f"{age_s:.0f} s: a message was lost"
        )
    return Verdict(Cause.DEADLOCK, tuple(s.rank for s in ring), age_s, text)
