"""Rank program: one BSP exchange beside a plain MPI_Allreduce of the same buffer.

``mpirun -n 4 python -m benchmarks.cluster.exchange`` takes turns at the two and at an
exchange of many tiny rows, and prints medians as one line of JSON.  No update rule.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

import numpy as np

from benchmarks.cluster.emulated_net import Memory, make_slot
from benchmarks.cluster.rank import say
from benchmarks.cluster.wiring import Joined, join
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.net.hooks import DONE, ParamSlot

_TINY_BYTES = 64
_WINDOW_BYTES = 1 << 20
_TOPIC = 30

T = TypeVar("T")


class Exchange:
    """Slots whose gradients are all ready at once, exchanged in one go."""

    def __init__(self, slots: Sequence[ParamSlot], settings: ClusterSettings) -> None:
        self._slots = slots
        self._blobs = [Memory(slot.shape) for slot in slots]
        for blob in self._blobs:
            # Pages that nobody wrote would all be one page of zeros.
            blob.diff.fill(0)
            blob.data.fill(0)
        self.joined: Joined = join(slots, self._blobs, settings)

    def __call__(self) -> None:
        """From the first gradient to the last value."""
        observer = self.joined.observer
        for slot in reversed(self._slots):
            observer.grad_ready(slot, DONE)
        observer.backward_done()
        for layer in range(len(self._slots)):
            observer.before_forward(layer)

    def messages(self) -> int:
        """How many messages this rank sends in one exchange; it receives as many."""
        cluster, rows = self.joined.cluster, self.joined.plan.rows
        own = sum(row.owner == cluster.courier.rank for row in rows)
        return len(rows) - own + own * (cluster.courier.size - 1)


def slots_of(size_bytes: int, count: int) -> list[ParamSlot]:
    """``count`` slots of equal size, each of a layer of its own."""
    shape = (size_bytes // 4 // count,)
    return [make_slot(i, f"slot{i}/0", i, shape) for i in range(count)]


def timed(action: Callable[[], None], barrier: Callable[[], None]) -> float:
    """Seconds of one call, begun by all ranks together."""
    barrier()
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def main() -> None:
    """Take turns and tell the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mbytes", type=float, default=240.0)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--tiny", type=int, default=0, help="this many tiny rows only")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    say_as_rank_0(tiny(args) if args.tiny else big(args))


def say_as_rank_0(result: dict[str, Any]) -> None:
    """Print on rank 0."""
    if result.pop("rank") == 0:
        say(result)


def big(args: argparse.Namespace) -> dict[str, Any]:
    """The large exchange and the Allreduce, in turn."""
    size_bytes = int(args.mbytes * 1e6)
    exchange = Exchange(slots_of(size_bytes, args.slots), _settings())
    # Now that the cluster has started MPI as it wants it.
    from mpi4py import MPI

    courier = exchange.joined.cluster.courier
    plain = in_courier(courier, MPI.COMM_WORLD.Dup)
    buffer = np.empty(size_bytes // 4, np.float32)
    buffer.fill(0)

    def allreduce() -> None:
        in_courier(courier, lambda: plain.Allreduce(MPI.IN_PLACE, buffer))

    def barrier() -> None:
        in_courier(courier, plain.Barrier)

    actions: dict[str, Callable[[], None]] = {
        "exchange_s": exchange,
        "allreduce_s": allreduce,
    }
    times_s: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(2 + args.rounds):
        for name, action in actions.items():
            times_s[name].append(timed(action, barrier))
    found = {name: slowest(exchange.joined, each[2:]) for name, each in times_s.items()}
    result = {name: median(each) for name, each in found.items()}
    result["ratio"] = result["exchange_s"] / result["allreduce_s"]
    exchange.joined.close()
    return {"rank": courier.rank, **result, "rounds": found}


def in_courier(courier: Courier, action: Callable[[], T]) -> T:
    """Run a blocking MPI call where no other thread calls MPI meanwhile."""
    results: list[T] = []
    courier.call(lambda: results.append(action()))
    courier.wait_for(lambda: bool(results), Waiting("a plain MPI call"))
    return results[0]


def slowest(joined: Joined, times_s: Sequence[float]) -> list[float]:
    """The longest of all ranks' times, round by round."""
    found = joined.cluster.board.all_gather(
        _TOPIC, np.asarray(times_s, np.float64).tobytes()
    )
    each = [np.frombuffer(data, np.float64) for data in found]
    return [float(t) for t in np.max(each, axis=0)]


def tiny(args: argparse.Namespace) -> dict[str, Any]:
    """Many rows of a few bytes: what a message costs beside its bytes."""
    # Merging would make one message of them all.
    exchange = Exchange(
        slots_of(args.tiny * _TINY_BYTES, args.tiny), _settings(_TINY_BYTES)
    )
    # Small rows shall not mean that they leave one by one.
    exchange.joined.cluster.courier.window_bytes = _WINDOW_BYTES
    board = exchange.joined.cluster.board

    def barrier() -> None:
        board.barrier(_TOPIC)

    times_s = [timed(exchange, barrier) for _ in range(2 + args.rounds)][2:]
    took_s = max(slowest(exchange.joined, [median(times_s)]))
    messages = exchange.messages()
    exchange.joined.close()
    return {
        "rank": exchange.joined.cluster.courier.rank,
        "exchange_s": took_s,
        "messages": messages,
        "per_message_us": took_s / messages * 1e6,
    }


def _settings(row_bytes: int = 0) -> ClusterSettings:
    return ClusterSettings(svb="off", check_replicas_iters=0, row_bytes=row_bytes)


if __name__ == "__main__":
    main()
