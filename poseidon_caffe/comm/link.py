"""The link between ranks: its latency and rate, and the message sizes that suit it.

A message of n bytes takes alpha + beta n seconds.  Both are measured between machines
at start, before the courier runs; ranks of one machine take nominal figures, since a
measurement there would be one of the scheduler.  What is decided by the link decides
how sums are ordered, so all of it is coarse: classes and powers of two, the same in
every run and on every rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.transport import Request, Transport
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = [
    "LINK_CLASSES",
    "MEMORY",
    "LinkClass",
    "LinkFit",
    "Sizes",
    "choose_sizes",
    "coarse",
    "fit",
    "link_class",
    "measure",
    "measure_fit",
]

_BYTES_PER_GBIT = 1.25e8
_BYTES_PER_MBIT = 1.25e5
# What a message costs at both ends besides the link: Python, queues, a poll.
_OVERHEAD_S = 50e-6
# The largest messages are this share latency, the merged ones that share.
_ROW_LATENCY, _MERGED_LATENCY = 0.05, 0.2
_LEAST_ROW_BYTES, _MOST_ROW_BYTES = 1 << 18, 1 << 22
_LEAST_MERGE_BYTES, _MOST_MERGE_BYTES = 1 << 14, 1 << 20

_HEADER_TAG, _READY_TAG, _PAYLOAD_TAG = 90, 91, 92
_SMALL_BYTES, _SMALL_SAMPLES = 64, 7
# Large messages grow until one takes so long: whatever lets a link burst at first,
# the buckets of clouds and of tc, is then used up.
_FIRST_BYTES, _MOST_BYTES, _GROWTH = 1 << 16, 1 << 24, 4
_LONG_S = 4e-3
_MOST_SAMPLES = 8
_BUDGET_S, _ROUNDS = 0.3, 2
_MOST_PEERS = 6
_IDLE_S = 100e-6


@dataclass(frozen=True)
class LinkFit:
    """Time of a message of n bytes: ``alpha_s + beta_s_per_byte * n``."""

    alpha_s: float
    beta_s_per_byte: float


@dataclass(frozen=True)
class LinkClass:
    """A kind of link, by its nominal rate.

    Attributes:
        name: ``10 Gbit/s``, or ``memory`` where all ranks share a machine.
        bytes_per_s: one direction.
    """

    name: str
    bytes_per_s: float


@dataclass(frozen=True)
class Sizes:
    """How much goes into one message.

    Attributes:
        merge_bytes: small neighbours are merged until they have as much, before
            they are dealt to all owners.
        row_bytes: the largest message.
    """

    merge_bytes: int
    row_bytes: int


MEMORY = LinkClass("memory", 5e9)
LINK_CLASSES = tuple(
    LinkClass(f"{rate:g} Gbit/s", rate * _BYTES_PER_GBIT)
    for rate in (0.1, 1, 2.5, 10, 25, 40, 100)
)
# Nominal latencies: of one room's network, and where it is measured to be longer.
_NEAR_S, _FAR_FROM_S, _FAR_S = 50e-6, 1e-3, 5e-3
_MEMORY_FIT = LinkFit(_NEAR_S, 1 / MEMORY.bytes_per_s)


def link_class(bytes_per_s: float) -> LinkClass:
    """The network whose rate is nearest, by ratio."""
    return min(
        LINK_CLASSES, key=lambda each: abs(math.log(each.bytes_per_s / bytes_per_s))
    )


def fit(samples: Sequence[tuple[int, float]]) -> LinkFit:
    """Latency and rate from (size in bytes, seconds) of messages.

    Medians of each size stand for it, so single slow messages do no harm, and errors
    count by ratio, so that the largest size does not drown the latency.

    Raises:
        ClusterError: fewer than two sizes.
    """
    by_size: dict[int, list[float]] = {}
    for size_bytes, seconds in samples:
        by_size.setdefault(size_bytes, []).append(seconds)
    if len(by_size) < 2:
        msg = f"a link is measured with two sizes at least, received {len(by_size)}"
        raise ClusterError(msg)
    sizes = np.array(list(by_size), float)
    times = np.array([max(median(each), 1e-9) for each in by_size.values()])
    system = np.stack([1 / times, sizes / times], axis=1)
    alpha_s, beta = np.linalg.lstsq(system, np.ones(len(times)), rcond=None)[0]
    if alpha_s <= 0:  # noise: a line through the origin
        largest = int(sizes.argmax())
        alpha_s, beta = 1e-7, times[largest] / sizes[largest]
    if beta <= 0:  # no size was large enough to tell: as if latency were all
        alpha_s, beta = float(times.min()), 1 / LINK_CLASSES[-1].bytes_per_s
    return LinkFit(float(alpha_s), float(beta))


def coarse(found: LinkFit, kind: LinkClass) -> LinkFit:
    """The class's rate and one of two latencies: the same in every run."""
    alpha_s = _NEAR_S if found.alpha_s < _FAR_FROM_S else _FAR_S
    return LinkFit(alpha_s, 1 / kind.bytes_per_s)


def choose_sizes(link: LinkFit, owners: int) -> Sizes:
    """Messages large enough that latency hardly counts, small enough to be overtaken.

    A row's time is one twentieth latency, within 256 KiB to 4 MiB: some milliseconds
    at most at 1 Gbit/s and more.  Small slots are merged until latency is a fifth of
    the time of each owner's part; more would put off what is complete already.

    Args:
        link: the slowest one.
        owners: how many parts a merged bucket is cut into.
    """
    latency_s = link.alpha_s + _OVERHEAD_S

    def size_at(share: float, least: int, most: int) -> int:
        wanted = latency_s * (1 / share - 1) / link.beta_s_per_byte
        return min(max(1 << round(math.log2(max(wanted, 1.0))), least), most)

    row_bytes = size_at(_ROW_LATENCY, _LEAST_ROW_BYTES, _MOST_ROW_BYTES)
    part = size_at(_MERGED_LATENCY, _LEAST_MERGE_BYTES, _MOST_MERGE_BYTES)
    return Sizes(merge_bytes=owners * part, row_bytes=row_bytes)


def measure(
    transport: Transport, owners: int, settings: ClusterSettings
) -> tuple[LinkClass, Sizes]:
    """What all ranks agree on about the link; every rank calls it, before the courier.

    A cap by ``bandwidth_mbps`` counts as the link's rate.

    Args:
        transport: used by nobody else yet; nothing is left under way.
        owners: ranks that serve.
        settings: ``comm_timeout_s`` and ``bandwidth_mbps``.

    Raises:
        ClusterError: a peer does not answer; names it.
    """
    if len(set(transport.hosts)) == 1:
        kind, found = MEMORY, _MEMORY_FIT
    else:
        found = measure_fit(transport, settings.comm_timeout_s)
        kind = link_class(1 / found.beta_s_per_byte)
    cap = settings.bandwidth_mbps * _BYTES_PER_MBIT
    if 0 < cap < kind.bytes_per_s:
        kind = link_class(cap)
    return kind, choose_sizes(coarse(found, kind), owners)


def measure_fit(transport: Transport, timeout_s: float) -> LinkFit:
    """Latency and rate from rank 0 to others, of the slowest; the same on every rank.

    One rank of each other machine is asked, of up to six machines.  Takes about
    0.3 s once these are here, on slow links too.

    Raises:
        ClusterError: a peer was silent for ``timeout_s``; names it.
    """
    if transport.size == 1:
        return _MEMORY_FIT
    if transport.rank:
        # Rank 0 knows who is silent: it shall be the first to lose patience.
        return _answer(_Line(transport, 1.5 * timeout_s))
    line = _Line(transport, timeout_s)
    probes = [_Probe(line, peer) for peer in _peers(transport.hosts)]
    for probe in probes * _ROUNDS:  # whatever disturbs one round may spare the other
        probe.run(_BUDGET_S / len(probes) / _ROUNDS)
    found = [fit(probe.samples()) for probe in probes]
    slowest = LinkFit(
        max(each.alpha_s for each in found),
        max(each.beta_s_per_byte for each in found),
    )
    end = np.array([-1.0, slowest.alpha_s, slowest.beta_s_per_byte])
    others = range(1, transport.size)
    line.wait([transport.send(peer, _HEADER_TAG, end) for peer in others], None)
    return slowest


def _peers(hosts: Sequence[str]) -> list[int]:
    """The first rank of each machine but rank 0's, evenly thinned; else rank 1."""
    first: dict[str, int] = {}
    for rank, host in enumerate(hosts):
        first.setdefault(host, rank)
    far = list(first.values())[1:] or [1]
    count = min(len(far), _MOST_PEERS)
    return [far[i * len(far) // count] for i in range(count)]


class _Line:
    """Sends and receives with a wait and a time limit."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self.transport, self._timeout_s = transport, timeout_s
        self._done: list[Request] = []

    def receive(self, peer: int, tag: int, array: Array, *, rest_s: float = 0) -> None:
        """Receive into ``array`` and wait for it."""
        self.wait([self.transport.receive(peer, tag, array)], peer, rest_s=rest_s)

    def send(self, peer: int, tag: int, array: Array) -> None:
        """Send ``array`` and wait until it may be reused."""
        self.wait([self.transport.send(peer, tag, array)], peer)

    def wait(
        self, requests: Sequence[Request], peer: int | None, *, rest_s: float = 0
    ) -> None:
        """Until all are finished; ``peer`` is blamed if they never are."""
        end_s = time.monotonic() + self._timeout_s
        while not all(request in self._done for request in requests):
            finished = self.transport.finished()
            self._done += finished
            if not finished:
                time.sleep(rest_s)
                if time.monotonic() > end_s:
                    raise ClusterError(self._silent(peer))
        self._done = [each for each in self._done if each not in requests]

    def _silent(self, peer: int | None) -> str:
        hosts, pids = self.transport.hosts, self.transport.pids
        who = "a rank" if peer is None else f"rank {peer} ({hosts[peer]}, {pids[peer]})"
        return (
            f"rank {self.transport.rank}: {who} did not answer for "
            f"{self._timeout_s:g} s while the link was measured: is it stopped, or "
            "its host unreachable? --comm_timeout_s sets how long to wait"
        )


class _Probe:
    """Messages to one peer, timed: small ones, and ones that grow until they last."""

    def __init__(self, line: _Line, peer: int) -> None:
        self._line, self._peer = line, peer
        self._small_s: list[float] = []
        self._large_s: list[float] = []
        self._payload = np.zeros(_FIRST_BYTES, np.uint8)

    def run(self, budget_s: float) -> None:
        """Spend about ``budget_s``, more only if a message is slower than expected."""
        small = np.zeros(_SMALL_BYTES, np.uint8)
        self._time(small)  # connections are made by first messages
        end_s = time.perf_counter() + budget_s
        self._small_s += [self._time(small) for _ in range(_SMALL_SAMPLES)]
        self._time(self._payload)
        for _ in range(_MOST_SAMPLES):
            left_s = end_s - time.perf_counter()
            if len(self._large_s) > 1 and min(self._large_s) > left_s:
                break
            self._large_s.append(self._time(self._payload))
            self._grow(end_s)

    def _grow(self, end_s: float) -> None:
        """Go on to larger messages where those of now are over too soon."""
        if len(self._large_s) < 2 or self._payload.size >= _MOST_BYTES:
            return
        # Three of the next size at least: its first, which is dropped, and two more.
        fastest_s, left_s = min(self._large_s), end_s - time.perf_counter()
        if fastest_s < _LONG_S and 3 * _GROWTH * fastest_s < left_s:
            self._payload = np.zeros(_GROWTH * self._payload.size, np.uint8)
            self._large_s = []
            self._time(self._payload)

    def samples(self) -> list[tuple[int, float]]:
        """(size, one-way seconds), of two sizes; the faster half of each.

        What else runs on the machines only adds time.
        """
        small_s, large_s = (
            sorted(each)[: (len(each) + 1) // 2]
            for each in (self._small_s, self._large_s)
        )
        back_s = median(small_s) / 2
        return [
            *((_SMALL_BYTES, seconds / 2) for seconds in small_s),
            *((self._payload.size, max(seconds - back_s, 0.0)) for seconds in large_s),
        ]

    def _time(self, payload: Array) -> float:
        """Seconds from sending to a peer that waits for it, to its answer.

        The answer is a byte: while a large one came back, a bucket that shapes the
        link would fill again, and let the next message pass unshaped.
        """
        line, peer, ready = self._line, self._peer, np.empty(1, np.uint8)
        line.send(peer, _HEADER_TAG, np.array([payload.size, 0.0, 0.0]))
        line.receive(peer, _READY_TAG, ready)
        start_s = time.perf_counter()
        answer = line.transport.receive(peer, _READY_TAG, ready)
        line.wait([answer, line.transport.send(peer, _PAYLOAD_TAG, payload)], peer)
        return time.perf_counter() - start_s


def _answer(line: _Line) -> LinkFit:
    """Rank 0's partner: take what it sends until it tells the result."""
    header, ready = np.empty(3), np.zeros(1, np.uint8)
    memory = np.empty(0, np.uint8)  # kept: the first use of a page costs time
    while True:
        line.receive(0, _HEADER_TAG, header, rest_s=_IDLE_S)
        size_bytes, alpha_s, beta = header.tolist()
        if size_bytes < 0:
            return LinkFit(alpha_s, beta)
        if memory.size < size_bytes:
            memory = np.zeros(int(size_bytes), np.uint8)
        incoming = line.transport.receive(0, _PAYLOAD_TAG, memory[: int(size_bytes)])
        line.send(0, _READY_TAG, ready)
        line.wait([incoming], 0)
        line.send(0, _READY_TAG, ready)
