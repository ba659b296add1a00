"""A network inside one process: seeded delays, any order, failures; for tests.

It is as unkind as the `Transport` contract allows: a message is read from the
sender's array at the last moment, a large one only once its receive is posted,
and nothing moves but inside some rank's `finished`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from poseidon_caffe.comm.buffers import as_bytes
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["Delay", "FakeAbortError", "FakeNetwork", "FakeRequest", "FakeTransport"]

# (source, peer, tag, size_bytes) -> seconds; math.inf: the message is lost, and
# what follows it with the same tag waits behind it for ever.
Delay: TypeAlias = Callable[[int, int, int, int], float]


class FakeAbortError(ClusterError):
    """The fake job was aborted: by this rank's own call, or by another's."""


class FakeRequest:
    """A transfer under way.

    Attributes:
        rank: who began it.
        data: its bytes, uint8: the caller's own memory, or a copy made of it.
        due_s: for a send, when it may arrive (the network's clock).
        is_done: whether `finished` may name it.
    """

    __slots__ = ("data", "due_s", "is_done", "rank")

    def __init__(self, rank: int, data: Array, due_s: float) -> None:
        self.rank, self.data, self.due_s = rank, data, due_s
        self.is_done = False


class _Channel:
    """What is under way with one tag from one rank to another, in order."""

    __slots__ = ("peer", "random", "receives", "sends", "source", "tag")

    def __init__(self, source: int, peer: int, tag: int, seed: int) -> None:
        self.source, self.peer, self.tag = source, peer, tag
        self.sends: deque[FakeRequest] = deque()
        self.receives: deque[FakeRequest] = deque()
        # One stream a channel: a message's delay does not hang on the threads' order.
        self.random = random.Random(f"{seed}/{source}/{peer}/{tag}")


class _Station:
    """The network's side of one rank."""

    def __init__(self) -> None:
        self.done: list[FakeRequest] = []
        self.leaving: deque[tuple[float, FakeRequest]] = deque()  # eager sends
        self.arriving: list[tuple[float, int, _Channel]] = []  # heap of wake-ups
        self.free_s = -math.inf  # when its link has sent all so far
        self.paused_until_s = -math.inf
        self.has_failed = False
        self.error: ClusterError | None = None


class FakeNetwork:
    """Joins ``size`` ranks of one process; every rank may have its own thread.

    Attributes:
        size: how many ranks.
        sent_bytes: what each rank sent so far, to others and to itself.
        sent_messages: likewise their number.
        aborted: (rank, exit status) of the first abort, or None.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int = 0,
        delay_s: tuple[float, float] | Delay = (0.0, 0.0),
        bandwidth_bytes_s: float = math.inf,
        eager_bytes: int = 4096,
        hosts: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Lay the cables.

        Args:
            size: how many ranks.
            seed: of the delays.
            delay_s: bounds of each message's random delay, or a function for it.
            bandwidth_bytes_s: what one rank can send per second, to all together.
            eager_bytes: a larger message waits until its receive is posted.
            hosts: name of each rank's machine; by default all are on one.
            clock: seconds.
        """
        self.size = size
        self.sent_bytes = [0] * size
        self.sent_messages = [0] * size
        self.aborted: tuple[int, int] | None = None
        self._hosts = tuple(hosts or ["localhost"] * size)
        self._seed, self._delay_s, self._clock = seed, delay_s, clock
        self._bandwidth_bytes_s, self._eager_bytes = bandwidth_bytes_s, eager_bytes
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._stations = [_Station() for _ in range(size)]
        self._channels: dict[tuple[int, int, int], _Channel] = {}

    def transport(self, rank: int) -> FakeTransport:
        """The end of ``rank``."""
        return FakeTransport(self, rank, self._hosts)

    def fail(self, rank: int, *, is_told: bool = False) -> None:
        """Kill ``rank``: nothing it sent that has not arrived ever will.

        Args:
            rank: who.
            is_told: whether the others' `finished` raises, as MPI sometimes does.
        """
        with self._lock:
            self._stations[rank].has_failed = True
            for channel in self._channels.values():
                if channel.source == rank:
                    channel.sends.clear()
            if is_told:
                error = ClusterError(f"rank {rank} has died")
                for station in self._stations:
                    station.error = station.error or error

    def pause(self, rank: int, seconds: float = math.inf) -> None:
        """Stop ``rank`` from now on for ``seconds``: nothing leaves or arrives."""
        with self._lock:
            now = self._clock()
            self._stations[rank].paused_until_s = now + seconds
            for channel in self._channels.values():
                if channel.source == rank and channel.sends:
                    self._wake(channel, now + seconds)

    def resume(self, rank: int) -> None:
        """Let a paused ``rank`` go on at once."""
        self.pause(rank, 0.0)

    # What the transports call, each from its own thread.

    def start_send(self, source: int, peer: int, tag: int, data: Array) -> FakeRequest:
        """Put a message on its way."""
        with self._lock:
            self._check(source)
            channel, station = self._channel(source, peer, tag), self._stations[source]
            took_s = data.size / self._bandwidth_bytes_s
            station.free_s = max(self._clock(), station.free_s) + took_s
            due_s = station.free_s + self._draw(channel, data)
            request = FakeRequest(source, data, due_s)
            self.sent_bytes[source] += data.size
            self.sent_messages[source] += 1
            if data.size <= self._eager_bytes:
                station.leaving.append((station.free_s, request))
            if not station.has_failed:
                channel.sends.append(request)
                self._wake(channel, due_s)
            return request

    def start_receive(
        self, rank: int, source: int, tag: int, data: Array
    ) -> FakeRequest:
        """Post a receive."""
        with self._lock:
            self._check(rank)
            channel = self._channel(source, rank, tag)
            request = FakeRequest(rank, data, 0.0)
            channel.receives.append(request)
            if channel.sends:
                self._wake(channel, channel.sends[0].due_s)
            return request

    def progress(self, rank: int) -> list[FakeRequest]:
        """Move what can move at ``rank``; its requests that are done."""
        station = self._stations[rank]
        with self._lock:
            self._check(rank)
            now = self._clock()
            if station.has_failed or now < station.paused_until_s:
                return []
            self._depart(station, now)
            while station.arriving and station.arriving[0][0] <= now:
                self._arrive(heapq.heappop(station.arriving)[2], now)
            self._check(rank)
            done, station.done = station.done, []
            return done

    def leave(self, rank: int) -> None:
        """Close an end; what it sent still arrives, from copies of the arrays."""
        with self._lock:
            self._stations[rank].leaving.clear()
            for channel in self._channels.values():
                if channel.peer == rank:
                    channel.receives.clear()
                if channel.source == rank:
                    for request in channel.sends:
                        request.data = request.data.copy()

    def abort(self, rank: int, code: int) -> NoReturn:
        """End the job: every later call of every rank raises."""
        with self._lock:
            self.aborted = self.aborted or (rank, code)
            self._check(rank)
        raise AssertionError

    # With the lock held.

    def _check(self, rank: int) -> None:
        if self.aborted:
            by, code = self.aborted
            raise FakeAbortError(f"rank {by} aborted the job with exit status {code}")
        error = self._stations[rank].error
        if error:
            raise error

    def _channel(self, source: int, peer: int, tag: int) -> _Channel:
        key = (source, peer, tag)
        if key not in self._channels:
            self._channels[key] = _Channel(*key, self._seed)
        return self._channels[key]

    def _draw(self, channel: _Channel, data: Array) -> float:
        if callable(self._delay_s):
            return self._delay_s(channel.source, channel.peer, channel.tag, data.size)
        return channel.random.uniform(*self._delay_s)

    def _wake(self, channel: _Channel, when_s: float) -> None:
        entry = (when_s, next(self._numbers), channel)
        heapq.heappush(self._stations[channel.peer].arriving, entry)

    def _depart(self, station: _Station, now: float) -> None:
        """Copy the eager sends whose time has come: their arrays are free again."""
        while station.leaving and station.leaving[0][0] <= now:
            request = station.leaving.popleft()[1]
            if not request.is_done:
                request.data = request.data.copy()
                self._finish(request)

    def _arrive(self, channel: _Channel, now: float) -> None:
        """Deliver in order whatever of ``channel`` is due and awaited."""
        wakes_s = self._stations[channel.source].paused_until_s
        while channel.sends and channel.receives:
            sent = channel.sends[0]
            # A stopped sender's small messages have left; its large ones have not.
            due_s = sent.due_s if sent.is_done else max(sent.due_s, wakes_s)
            if due_s > now:
                self._wake(channel, due_s)
                return
            channel.sends.popleft()
            self._deliver(channel, sent, channel.receives.popleft())

    def _deliver(self, channel: _Channel, sent: FakeRequest, got: FakeRequest) -> None:
        if sent.data.size != got.data.size:
            self._stations[got.rank].error = ClusterError(
                f"rank {channel.source} sent {sent.data.size} bytes to rank "
                f"{channel.peer} with tag {channel.tag}, which expected "
                f"{got.data.size}: do all ranks run the same version and net?"
            )
            return
        got.data[...] = sent.data
        self._finish(got)
        if not sent.is_done:
            self._finish(sent)

    def _finish(self, request: FakeRequest) -> None:
        request.is_done = True
        self._stations[request.rank].done.append(request)


class FakeTransport:
    """One rank's end of a `FakeNetwork`; see `Transport`."""

    def __init__(self, network: FakeNetwork, rank: int, hosts: Sequence[str]) -> None:
        self.rank = rank
        self.size = network.size
        self.hosts = hosts
        self.pids: Sequence[int] = range(1000, 1000 + network.size)
        self._network = network

    def send(self, peer: int, tag: int, array: Array) -> FakeRequest:
        """Begin to send ``array``."""
        data = as_bytes(array, peer=peer, tag=tag, is_received=False)
        return self._network.start_send(self.rank, self._known(peer), tag, data)

    def receive(self, peer: int, tag: int, array: Array) -> FakeRequest:
        """Begin to receive into ``array``."""
        data = as_bytes(array, peer=peer, tag=tag, is_received=True)
        return self._network.start_receive(self.rank, self._known(peer), tag, data)

    def finished(self) -> list[FakeRequest]:
        """What finished since the last call."""
        return self._network.progress(self.rank)

    def abort(self, code: int) -> NoReturn:
        """End the fake job: raises `FakeAbortError` here and at every other rank."""
        self._network.abort(self.rank, code)

    def close(self) -> None:
        """Leave; open receives are given up."""
        self._network.leave(self.rank)

    def _known(self, peer: int) -> int:
        if not 0 <= peer < self.size:
            raise ClusterError(f"no rank {peer} in a job of {self.size}")
        return peer
