"""The one communication thread of a rank: it alone touches the transport.

Other threads hand it functions to run (`Courier.call`) and wait for what they cause
(`Courier.wait_for`).  Sends to one peer leave in order of priority; few are under way
at a time, so that an urgent one overtakes those still waiting.  Nothing here blocks:
the thread polls, resting a little longer each time nothing moved.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from poseidon_caffe.comm.pacing import TokenBucket
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.transport import Request, Transport
from poseidon_caffe.errors import ClusterError, PoseidonError
from poseidon_caffe.types import Array

__all__ = ["FIRST_DATA_TAG", "Counter", "Courier", "Pending", "Waiting"]

# Messages with lower tags are control: small, and never wait behind others.
FIRST_DATA_TAG: Final = 1000
_SHORTEST_REST_S = 20e-6
_LONGEST_REST_S = 500e-6
# While the main thread waits, every microsecond of rest is one of training.
_WAITED_FOR_REST_S = 50e-6
_DEFAULT_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a thread waits for.

    Attributes:
        label: in words, for a stall report.
        peer: the rank it comes from, when it is one.
        is_patient: it may take as long as it likes; no stall.
        since_s: `time.monotonic` at the beginning.
    """

    label: str
    peer: int | None = None
    is_patient: bool = False
    since_s: float = field(default_factory=time.monotonic)


class Counter(Protocol):
    """Told of every message that has left or come, in the courier's thread."""

    def sent(self, tag: int, size_bytes: int) -> None:
        """A message left."""

    def received(self, tag: int, size_bytes: int) -> None:
        """A message came."""


@dataclass(slots=True, eq=False)
class Pending:
    """A transfer that is not over yet; see `Courier.pending`."""

    peer: int
    tag: int
    label: str
    array: Array
    is_send: bool
    then: Callable[[], None] | None
    since_s: float

    @property
    def size_bytes(self) -> int:
        """Bytes of the message."""
        return self.array.nbytes


class Courier:
    """Moves messages for one rank.

    Args:
        transport: used by the courier's thread alone once it has started.
        settings: of the cluster; ``bandwidth_mbps`` caps the sending rate.

    Attributes:
        rank, size: the transport's.
        error: why nothing will come any more, or None.
        waiting: what the main thread waits for, None while it computes.
        window_bytes: a further send to a peer starts while fewer are under way.
        sent_bytes, received_bytes: of all messages so far.
        traffic: counts messages by tag, or None.
    """

    def __init__(self, transport: Transport, settings: ClusterSettings) -> None:
        self.transport = transport
        self.rank, self.size = transport.rank, transport.size
        self.error: PoseidonError | None = None
        self.waiting: Waiting | None = None
        self.window_bytes = settings.row_bytes or _DEFAULT_WINDOW_BYTES
        self.sent_bytes = self.received_bytes = 0
        self.traffic: Counter | None = None
        self._bucket = TokenBucket.of_mbps(settings.bandwidth_mbps)
        self._calls: deque[Callable[[], None]] = deque()
        # Held while nobody called.  (SimpleQueue.get with a timeout of microseconds
        # may wait for ever in CPython 3.11.)
        self._bell = threading.Lock()
        self._bell.acquire()
        self._progress = threading.Condition()
        self._queues: list[list[tuple[int, int, Pending]]] = [
            [] for _ in range(self.size)
        ]
        self._under_way_bytes = [0] * self.size
        self._sequence = self._queued = self._sending = 0
        self._open: dict[Request, Pending] = {}
        self._timers: list[tuple[float, int, float, Callable[[], None]]] = []
        self._awaited: deque[tuple[Callable[[], bool], Callable[[], None]]] = deque()
        self._stopping = self._abandoned = False
        self._thread = threading.Thread(
            target=self._run, name="poseidon-comm", daemon=True
        )

    # -- any thread ------------------------------------------------------------------
    def start(self) -> None:
        """Start the thread; from now on nobody else may use the transport."""
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` in the courier's thread, soon and in order of the calls."""
        self._calls.append(function)
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def when(self, condition: Callable[[], bool], function: Callable[[], None]) -> None:
        """Run ``function`` in the courier's thread once ``condition`` holds.

        In order: while one condition does not hold, later ones are not asked.
        """
        self.call(lambda: self._awaited.append((condition, function)))

    def fail(self, error: PoseidonError) -> None:
        """Let every present and future `wait_for` raise ``error``; the first counts."""
        if self.error is None:
            self.error = error
        with self._progress:
            self._progress.notify_all()

    def wait_for(self, condition: Callable[[], bool], what: Waiting) -> None:
        """Block until ``condition``, which only the courier's thread makes true.

        Raises:
            PoseidonError: `fail` was called.
        """
        if condition():
            return
        with self._progress:
            self.waiting = what
            try:
                while not condition():
                    if self.error is not None:
                        raise self.error
                    self._progress.wait(1.0)
            finally:
                self.waiting = None

    def close(self, timeout_s: float = 10.0) -> bool:
        """Stop once everything queued has been sent, or ``timeout_s`` later anyway.

        Returns:
            Whether everything has been sent.
        """
        if not self._thread.is_alive():
            return True
        self._stopping = True
        self.call(lambda: None)
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        self._abandoned = True
        self._thread.join()
        return False

    # -- the courier's thread ----------------------------------------------------------
    def send(
        self,
        peer: int,
        tag: int,
        array: Array,
        *,
        priority: int = 0,
        then: Callable[[], None] | None = None,
        label: str = "",
    ) -> None:
        """Send ``array`` when its turn comes; smaller ``priority`` is more urgent.

        The array must stay as it is until ``then`` is called.  Sends of one tag to
        one peer must have one priority: their order is kept.
        """
        transfer = Pending(peer, tag, label, array, True, then, time.monotonic())
        if tag < FIRST_DATA_TAG:
            self._begin_send(transfer)
            return
        self._sequence += 1
        heapq.heappush(self._queues[peer], (priority, self._sequence, transfer))
        self._queued += 1

    def receive(
        self,
        peer: int,
        tag: int,
        array: Array,
        then: Callable[[], None],
        *,
        label: str = "",
    ) -> None:
        """Receive into ``array``, then call ``then``."""
        transfer = Pending(peer, tag, label, array, False, then, time.monotonic())
        self._open[self.transport.receive(peer, tag, array)] = transfer

    def every(self, interval_s: float, function: Callable[[], None]) -> None:
        """Call ``function`` now and then every ``interval_s`` seconds."""
        self._sequence += 1
        entry = (time.monotonic(), self._sequence, interval_s, function)
        heapq.heappush(self._timers, entry)

    def pending(self) -> list[Pending]:
        """Every transfer that is not over, queued sends included."""
        queued = [entry[2] for each in self._queues for entry in each]
        return [*self._open.values(), *queued]

    # -- its work --------------------------------------------------------------------
    def _run(self) -> None:
        idle = 0
        try:
            while not (self._stopping and not self._busy()) and not self._abandoned:
                if self._turn():
                    idle = 0
                    continue
                idle += 1
                self._rest(idle)
        except PoseidonError as error:
            self.fail(error)
        except BaseException as error:
            text = f"rank {self.rank}: the communication thread failed: {error!r}"
            self.fail(ClusterError(text))
            raise

    def _busy(self) -> bool:
        return bool(self._queued or self._sending or self._calls or self._awaited)

    def _turn(self) -> bool:
        """Do what can be done now; whether anything moved."""
        moved = self._run_calls()
        if self._awaited:
            moved |= self._run_awaited()
        if self._queued:
            moved |= self._start_sends()
        finished = self.transport.finished()
        for request in finished:
            self._finish(self._open.pop(request))
        if self._timers and self._timers[0][0] <= time.monotonic():
            self._run_timer()
            moved = True
        if (moved or finished) and self.waiting is not None:
            with self._progress:
                self._progress.notify_all()
        return moved or bool(finished)

    def _run_calls(self) -> bool:
        count = len(self._calls)
        for _ in range(count):
            self._calls.popleft()()
        return count > 0

    def _run_awaited(self) -> bool:
        moved = False
        while self._awaited and self._awaited[0][0]():
            self._awaited.popleft()[1]()
            moved = True
        return moved

    def _run_timer(self) -> None:
        _, sequence, interval_s, function = heapq.heappop(self._timers)
        function()
        due = time.monotonic() + interval_s
        heapq.heappush(self._timers, (due, sequence, interval_s, function))

    def _start_sends(self) -> bool:
        """Begin sends, the most urgent first, as windows and the cap allow."""
        started = False
        while (waiting := self._most_urgent()) is not None:
            if not self._bucket.take(waiting[0][2].size_bytes):
                break
            transfer = heapq.heappop(waiting)[2]
            self._queued -= 1
            self._under_way_bytes[transfer.peer] += transfer.size_bytes
            self._begin_send(transfer)
            started = True
        return started

    def _most_urgent(self) -> list[tuple[int, int, Pending]] | None:
        """The queue whose turn it is among those whose window has room."""
        return min(
            (
                waiting
                for peer, waiting in enumerate(self._queues)
                if waiting and self._under_way_bytes[peer] < self.window_bytes
            ),
            key=lambda waiting: waiting[0][:2],
            default=None,
        )

    def _begin_send(self, transfer: Pending) -> None:
        request = self.transport.send(transfer.peer, transfer.tag, transfer.array)
        self._open[request] = transfer
        self._sending += 1
        if self.traffic is not None:
            self.traffic.sent(transfer.tag, transfer.size_bytes)

    def _finish(self, transfer: Pending) -> None:
        if transfer.is_send:
            # Control may rest unread for long, as a server's word that it is at the
            # end does, so it takes no room in the window.
            if transfer.tag >= FIRST_DATA_TAG:
                self._under_way_bytes[transfer.peer] -= transfer.size_bytes
            self._sending -= 1
            self.sent_bytes += transfer.size_bytes
        else:
            self.received_bytes += transfer.size_bytes
            if self.traffic is not None:
                self.traffic.received(transfer.tag, transfer.size_bytes)
        if transfer.then is not None:
            transfer.then()

    def _rest(self, idle: int) -> None:
        """Sleep a little, or until somebody calls."""
        is_urgent = self.waiting is not None or self._awaited
        longest = _WAITED_FOR_REST_S if is_urgent else _LONGEST_REST_S
        rest_s = min(_SHORTEST_REST_S * idle, longest)
        if self._queued:
            # It may be a window that is full, though the bucket is not empty.
            ready_s = max(self._bucket.ready_in_s(), _SHORTEST_REST_S)
            rest_s = min(rest_s, ready_s)
        self._bell.acquire(timeout=rest_s)
