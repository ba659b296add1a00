"""Couriers without a cluster, on a network as unkind as the contract allows."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.fake import Delay, FakeNetwork, FakeRequest, FakeTransport
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError, PoseidonError

__all__ = ["UnkindTransport", "on_couriers", "on_threads", "turn_all", "unstarted"]


class UnkindTransport(FakeTransport):
    """Tells of finished transfers late and in any order, as MPI's Testsome may.

    Keeps ``began``: (peer, tag, bytes) of every send in the order they began.
    """

    def __init__(self, network: FakeNetwork, rank: int, seed: int = 0) -> None:
        super().__init__(network, rank, ("localhost",) * network.size)
        self.began: list[tuple[int, int, int]] = []
        self._random = random.Random(f"{seed}/{rank}")
        self._held: list[FakeRequest] = []

    def send(self, peer, tag, array):
        self.began.append((peer, tag, array.nbytes))
        return super().send(peer, tag, array)

    def finished(self):
        found = self._held + super().finished()
        self._random.shuffle(found)
        count = sum(self._random.random() < 0.8 for _ in found)
        self._held = found[count:]
        return found[:count]


def on_threads(
    network: FakeNetwork, run: Callable[[int], Any], timeout_s: float = 30.0
) -> list[Any]:
    """``run(rank)`` on a thread for each rank; results, or the first failure raised.

    A failure ends the whole network, so that nobody is left behind waiting.
    """
    results: list[Any] = [None] * network.size
    failures: list[BaseException] = []

    def guarded(rank: int) -> None:
        try:
            results[rank] = run(rank)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
            with contextlib.suppress(ClusterError):
                network.abort(rank, 1)

    threads = [
        threading.Thread(target=guarded, args=(rank,), daemon=True)
        for rank in range(network.size)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    if failures:
        raise failures[0]
    if any(thread.is_alive() for thread in threads):
        with contextlib.suppress(ClusterError):
            network.abort(0, 1)
        raise AssertionError(f"ranks hang after {timeout_s:g} s")
    return results


def on_couriers(
    size: int,
    play: Callable[[Courier], Any],
    *,
    settings: ClusterSettings | None = None,
    delay_s: tuple[float, float] | Delay = (0.0, 0.0),
    seed: int = 0,
    eager_bytes: float = 4096,
) -> list[Any]:
    """``play(courier)`` on every rank's main thread; what it returned."""
    network = FakeNetwork(size, seed=seed, delay_s=delay_s, eager_bytes=eager_bytes)

    def run(rank: int) -> Any:
        transport = UnkindTransport(network, rank, seed)
        courier = Courier(transport, settings or ClusterSettings())
        courier.start()
        try:
            return play(courier)
        finally:
            courier.close()

    return on_threads(network, run)


def unstarted(
    size: int, settings: ClusterSettings | None = None, **network: Any
) -> list[Courier]:
    """Couriers whose thread is the test itself; see `turn_all`."""
    cables = FakeNetwork(size, **network)
    return [
        Courier(UnkindTransport(cables, rank), settings or ClusterSettings())
        for rank in range(size)
    ]


def turn_all(couriers: Sequence[Courier], until: Callable[[], bool]) -> None:
    """Let the couriers work in turn until something holds."""
    end = time.monotonic() + 10
    while not until():
        for courier in couriers:
            courier._turn()
        for courier in couriers:
            if isinstance(courier.error, PoseidonError):
                raise courier.error
        assert time.monotonic() < end, "nothing moves"
