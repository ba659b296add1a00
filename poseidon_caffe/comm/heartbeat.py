"""Ranks tell each other twice a second that they live, and what they are doing.

A heartbeat is one small message from each rank to each other.  It leaves from the
courier's thread, so it tells of a main thread that computes, waits or hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.diagnosis import Cause, Limits, Sign
from poseidon_caffe.comm.process import (
    GONE,
    ProcessWatch,
    RunningClock,
    machine_id,
)
from poseidon_caffe.types import Array

__all__ = ["HEARTBEAT_TAG", "Heartbeat", "Pulse"]

HEARTBEAT_TAG: Final = 1
_NOBODY = -1
_FIELDS = 8
# A tick that comes later than so many intervals means that this rank was stopped.
_LATE_TICKS = 4
# Small messages leave even when nobody takes them: to a stopped rank only so many.
_UNANSWERED = 4


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one heartbeat says; travels as float64 (8 + ranks,).

    Attributes:
        machine: `machine_id` of the sender.
        iteration: in which its main thread is.
        layer: index of the layer that it is at, -1 outside of them.
        is_waiting: whether it waits for a message.
        idle_s: since it last did something.
        has_left: this is its last heartbeat, all is well.
        blames: rank for whose sake it ends the job, None while it does not.
        blames_for: why.
        awaits: ranks from which it expects messages.
    """

    machine: int = 0
    iteration: int = 0
    layer: int = -1
    is_waiting: bool = False
    idle_s: float = 0.0
    has_left: bool = False
    blames: int | None = None
    blames_for: Cause | None = None
    awaits: frozenset[int] = frozenset()

    def write(self, array: Array) -> None:
        """Put it into a message (8 + ranks,)."""
        array[:_FIELDS] = (
            self.machine,
            self.iteration,
            self.layer,
            self.is_waiting,
            self.idle_s,
            self.has_left,
            _NOBODY if self.blames is None else self.blames,
            self.blames_for or 0,
        )
        array[_FIELDS:] = 0
        array[[_FIELDS + peer for peer in self.awaits]] = 1

    @classmethod
    def read(cls, array: Array) -> Pulse:
        """What a message (8 + ranks,) says."""
        machine, iteration, layer, waits, idle_s, left, blames, cause = array[
            :_FIELDS
        ].tolist()
        return cls(
            machine=int(machine),
            iteration=int(iteration),
            layer=int(layer),
            is_waiting=bool(waits),
            idle_s=idle_s,
            has_left=bool(left),
            blames=None if blames < 0 else int(blames),
            blames_for=Cause(int(cause)) if cause else None,
            awaits=frozenset(np.flatnonzero(array[_FIELDS:]).tolist()),
        )


class _Peer:
    """One other rank: its messages, and what is known of it."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.inbox: Array = np.zeros(_FIELDS + size)
        self.outbox: Array = np.zeros(_FIELDS + size)
        self.is_sending = self.is_urgent = self.has_goodbye = False
        self.sent = self.heard = 0  # messages
        self.heard_s = 0.0
        self.pulse = Pulse()
        self.watch: ProcessWatch | None = None
        self.seen = self.process = ""


class Heartbeat:
    """This rank's heartbeats and what it knows of the others'.

    Args:
        courier: carries the messages; all but `beat` runs in its thread, and what
            reads (`signs`) in any.
        limits: how often.
        watch: how another process on this machine is watched; None: not at all.

    Attributes:
        layers: names of the net's layers by index, for messages.
        clock: seconds in which this process ran; all ages are measured by it.
        verdict: (rank, cause) for which this rank ends the job, or None.
    """

    def __init__(
        self,
        courier: Courier,
        limits: Limits,
        watch: Callable[[int], ProcessWatch] | None = ProcessWatch,
    ) -> None:
        self.clock = RunningClock(_LATE_TICKS * limits.interval_s)
        self.verdict: tuple[int, Cause] | None = None
        self._courier, self._transport = courier, courier.transport
        self.layers: Sequence[str] = ()
        self._watch = watch
        self._machine = machine_id(self._transport.hosts[courier.rank])
        ranks = range(courier.size)
        self._peers = {r: _Peer(r, courier.size) for r in ranks if r != courier.rank}
        self._iteration, self._layer, self._beats = 0, -1, 0
        self._moved: tuple[object, ...] = ()
        self._moved_s = 0.0
        self._own_bytes = 0  # of heartbeats, among all that the courier carried
        self._expected: set[int] = set()
        self._is_leaving = False

    # -- main thread -------------------------------------------------------------------
    def beat(self, iteration: int, layer: int = -1) -> None:
        """The main thread lives and is at ``layer`` (index; -1: at none)."""
        self._iteration, self._layer = iteration, layer
        self._beats += 1

    def is_done(self) -> bool:
        """After `leave`: whether every rank has said goodbye to every other."""
        return all(p.has_goodbye and p.pulse.has_left for p in self._peers.values())

    # -- any thread --------------------------------------------------------------------
    def signs(self) -> list[Sign]:
        """What is known of all ranks, this one too, in their order."""
        return [self._sign(rank) for rank in range(self._courier.size)]

    def look(self) -> list[Sign]:
        """`signs`, with the state of processes on this machine just now."""
        states = {
            rank: peer.watch.state()
            for rank, peer in self._peers.items()
            if peer.watch is not None
        }
        return [
            replace(sign, process=states.get(sign.rank, "")) for sign in self.signs()
        ]

    def heard(self) -> dict[int, int]:
        """How many heartbeats have come from each other rank."""
        return {rank: peer.heard for rank, peer in self._peers.items()}

    def awaited(self) -> int | None:
        """A rank whose goodbye is not here yet."""
        late = (p.rank for p in self._peers.values() if not p.pulse.has_left)
        return next(late, None)

    # -- the courier's thread ----------------------------------------------------------
    def open(self) -> None:
        """Begin to listen."""
        for peer in self._peers.values():
            peer.heard_s = self.clock.now()
            self._listen(peer)

    def look_around(self) -> None:
        """Note what this rank does and how the others' processes are."""
        self.clock.tick()
        self._note_progress()
        for peer in self._peers.values():
            if peer.watch is None or peer.pulse.has_left:
                continue
            state, peer.seen = peer.seen, peer.watch.state()
            # One look more: the last messages of a dead rank tell why it went.
            peer.process = peer.seen if peer.seen != GONE else state

    def send(self) -> None:
        """One heartbeat to each rank, but none to those that do not take them."""
        pulse = self._pulse()
        is_urgent = pulse.has_left or pulse.blames is not None
        for peer in self._peers.values():
            if peer.has_goodbye:
                continue
            if peer.is_sending:
                peer.is_urgent |= is_urgent
            elif is_urgent or peer.sent - peer.heard < _UNANSWERED:
                self._send(peer, pulse)

    def is_sending(self) -> bool:
        """Whether some heartbeat has not left yet."""
        return any(peer.is_sending for peer in self._peers.values())

    def leave(self) -> None:
        """Say goodbye: from now on silence is no fault."""
        self._is_leaving = True
        self.send()

    def _send(self, peer: _Peer, pulse: Pulse) -> None:
        pulse.write(peer.outbox)
        peer.is_sending, peer.is_urgent = True, False
        peer.sent += 1

        def sent() -> None:
            peer.is_sending = False
            self._own_bytes += peer.outbox.nbytes
            peer.has_goodbye = pulse.has_left
            if peer.is_urgent and not peer.has_goodbye:  # after it nobody listens
                self._send(peer, self._pulse())

        self._courier.send(
            peer.rank, HEARTBEAT_TAG, peer.outbox, then=sent, label="heartbeat"
        )

    def _listen(self, peer: _Peer) -> None:
        def heard() -> None:
            self._own_bytes += peer.inbox.nbytes
            self._heard(peer)

        self._courier.receive(
            peer.rank, HEARTBEAT_TAG, peer.inbox, heard, label="heartbeat"
        )

    def _heard(self, peer: _Peer) -> None:
        peer.pulse = Pulse.read(peer.inbox)
        peer.heard += 1
        peer.heard_s = self.clock.now()
        if peer.watch is None:
            self._meet(peer)
        if not peer.pulse.has_left:
            self._listen(peer)

    def _meet(self, peer: _Peer) -> None:
        """Watch its process too, if it can be seen from here."""
        if self._watch is not None and peer.pulse.machine == self._machine:
            peer.watch = self._watch(self._transport.pids[peer.rank])

    def _note_progress(self) -> None:
        """Remember when this rank last did anything but send heartbeats."""
        waiting, courier = self._courier.waiting, self._courier
        since_s = None if waiting is None else waiting.since_s
        carried = courier.sent_bytes + courier.received_bytes - self._own_bytes
        moved = (self._beats, since_s, carried)
        if moved != self._moved:
            self._moved, self._moved_s = moved, self.clock.now()
        self._expected = {
            transfer.peer
            for transfer in courier.pending()
            if not transfer.is_send and transfer.tag != HEARTBEAT_TAG
        }

    def _pulse(self) -> Pulse:
        own = self._sign(self._courier.rank)
        return Pulse(
            machine=self._machine,
            iteration=own.iteration,
            layer=self._layer,
            is_waiting=own.is_waiting,
            idle_s=own.idle_s,
            has_left=own.has_left,
            blames=own.blames,
            blames_for=own.blames_for,
            awaits=own.awaits,
        )

    def _sign(self, rank: int) -> Sign:
        host, pid = self._transport.hosts[rank], self._transport.pids[rank]
        if rank == self._courier.rank:
            return self._own_sign(host, pid)
        peer = self._peers[rank]
        silent_s = max(self.clock.now() - peer.heard_s, 0.0)
        return Sign(
            rank=rank,
            host=host,
            pid=pid,
            silent_s=silent_s,
            process=peer.process,
            iteration=peer.pulse.iteration,
            layer=self._name(peer.pulse.layer),
            is_waiting=peer.pulse.is_waiting,
            idle_s=peer.pulse.idle_s + silent_s,
            awaits=peer.pulse.awaits,
            has_left=peer.pulse.has_left,
            blames=peer.pulse.blames,
            blames_for=peer.pulse.blames_for,
        )

    def _own_sign(self, host: str, pid: int) -> Sign:
        blames, cause = self.verdict or (None, None)
        return Sign(
            rank=self._courier.rank,
            host=host,
            pid=pid,
            iteration=self._iteration,
            layer=self._name(self._layer),
            is_waiting=self._courier.waiting is not None,
            idle_s=self.clock.now() - self._moved_s,
            awaits=self._awaits(),
            has_left=self._is_leaving,
            blames=blames,
            blames_for=cause,
        )

    def _awaits(self) -> frozenset[int]:
        """The rank that is waited for, and those that have receives open here."""
        waiting = self._courier.waiting
        named = {waiting.peer} if waiting and waiting.peer is not None else set()
        return frozenset(named | self._expected) - {self._courier.rank}

    def _name(self, layer: int) -> str:
        if layer < 0:
            return ""
        return self.layers[layer] if layer < len(self.layers) else f"{layer}"
