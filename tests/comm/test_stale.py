"""Bounded staleness: how old values may be, that they are whole, memory used again."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from poseidon_caffe.comm.courier import FIRST_DATA_TAG
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.ordering import SendOrder
from poseidon_caffe.comm.rows import Piece, Row
from poseidon_caffe.comm.settings import SORT_POLICIES, ClusterSettings
from poseidon_caffe.comm.stale import BufferPool, StaleClient, VersionedDelivery
from poseidon_caffe.comm.tags import gradient_tag, values_tag
from tests.comm.couriers import turn_all, unstarted
from tests.comm.support import MOMENTUM, RATE, Tiny, drive, together


class Steady(Tiny):
    """Its gradient is one everywhere, so values tell their version."""

    def __post_init__(self):
        super().__post_init__()
        for blob in self.blobs:
            blob.data[...] = 0

    def backward(self, layer):
        for blob in self.blobs[2 * layer : 2 * layer + 2]:
            target, accumulate = blob.gradient_target()
            target[...] = target + 1 if accumulate else 1


def values_of(versions):
    """What every element is after so many updates by gradients of one."""
    value = history = 0.0
    found = [value]
    for _ in range(versions):
        history = MOMENTUM * history + RATE
        value -= history
        found.append(value)
    return np.array(found)


def version_of(values, known):
    """Versions that occur in ``values``."""
    nearest = np.abs(values.reshape(-1)[:, None] - known).argmin(axis=1)
    np.testing.assert_allclose(values.reshape(-1), known[nearest], rtol=1e-6)
    return set(nearest.tolist())


class Pace:
    """Who is where; nobody may be too far ahead of the slowest."""

    def __init__(self, size):
        self.at = [0] * size
        self.lead = 0

    def enter(self, rank, iteration):
        self.at[rank] = iteration
        self.lead = max(self.lead, iteration - min(self.at))


@pytest.mark.parametrize("staleness", [0, 1, 3])
@pytest.mark.parametrize("servers", [0, 2])
def test_values_are_as_new_as_promised_and_whole(staleness, servers):
    """In each iteration, of both passes, a row has one version, not too old."""
    workers, iterations, known = 3, 9, values_of(9)
    pace = Pace(workers)
    settings = ClusterSettings(
        svb="off", staleness=staleness, servers=servers, force_ssp=True, row_bytes=700
    )

    def work(rank, cluster):
        tiny = Steady(widths=(9, 11, 8))
        attached = cluster.attach(tiny.model(iter_size=2))
        if attached.sync is None:
            cluster.serve()
            return None
        seen = {}

        def look(iteration, layer):
            if layer == tiny.layers - 1:
                pace.enter(rank, iteration)
            if rank == 1 and layer == 0:
                time.sleep(0.002)
            for row in attached.plan.rows:
                for piece in row.pieces:
                    if tiny.slots[piece.slot].owner != layer:
                        continue
                    flat = tiny.blobs[piece.slot].data.reshape(-1)
                    found = version_of(flat[piece.start : piece.stop], known)
                    seen.setdefault((iteration, row.index), set()).update(found)

        # A pass's gradient is summed over passes: halve it to one.
        drive(tiny, attached, rank, iterations, 2, before_layer=look)
        for (iteration, row), versions in seen.items():
            assert len(versions) == 1, (iteration, row, versions)
            assert iteration - staleness <= versions.pop() <= iteration
        return tiny.state()

    states = together(workers + servers, settings, work, delay_s=(0, 5e-4))
    assert pace.lead <= staleness + 1, "entered means that all have sent long before"
    for state in states[:workers]:
        np.testing.assert_allclose(state, known[iterations], rtol=1e-6)


def test_the_fast_run_ahead_of_the_slow():
    """So far and no further, while the slow one has not begun."""
    staleness, far, pace = 3, threading.Event(), Pace(2)

    def work(rank, cluster):
        tiny = Steady(widths=(3, 2))

        def look(iteration, layer):
            pace.enter(rank, iteration)
            if rank == 0 and iteration == staleness:
                far.set()
            if rank == 1 and iteration == 0:
                assert far.wait(10), "rank 0 waits for what it need not"
                time.sleep(0.02)
                assert pace.at[0] == staleness

        drive(tiny, cluster.attach(tiny.model()), rank, 8, before_layer=look)

    together(2, ClusterSettings(svb="off", staleness=staleness), work)


@pytest.mark.parametrize("policy", SORT_POLICIES)
def test_every_order_of_sending_trains(policy):
    """All gradients count once, whatever leaves first through a narrow link."""
    iterations = 6
    settings = ClusterSettings(
        svb="off", staleness=2, update_sort_policy=policy, row_bytes=200,
        bandwidth_mbps=30,
    )  # fmt: skip

    def work(rank, cluster):
        tiny = Steady(widths=(20, 15), statistics=True)
        drive(tiny, cluster.attach(tiny.model()), rank, iterations)
        return tiny.state()[:-11]

    for state in together(2, settings, work):
        np.testing.assert_allclose(state, values_of(iterations)[-1], rtol=1e-6)


def test_memory_does_not_grow():
    size, staleness, rounds = 3, 2, 4
    settings = ClusterSettings(svb="off", staleness=staleness, row_bytes=400)

    def work(rank, cluster):
        tiny, made, taken = Steady(widths=(12, 10, 9)), [], []
        attached = cluster.attach(tiny.model())
        pool = attached._pool

        class Counting(type(pool)):
            def take(self, size_bytes):
                taken.append(size_bytes)
                if not self._free[size_bytes]:
                    made.append(size_bytes)
                return super().take(size_bytes)

        pool.__class__ = Counting
        for _ in range(rounds):
            drive(tiny, attached, rank, 20)
        return len(made), len(taken), len(attached.plan.rows)

    for made, taken, rows in together(size, settings, work, delay_s=(0, 5e-4)):
        assert taken > rounds * 20 * rows, "used"
        # A worker's gradients under way, those that wait, values in both directions.
        assert made <= rows * size * (2 * (staleness + 1) + 1), "and used again"
        assert made < taken / 6


def test_a_pool_gives_back_by_size():
    pool = BufferPool()
    a, b = pool.take(100), pool.take(200)
    assert (a.nbytes, b.nbytes, a.dtype) == (100, 200, np.uint8)
    pool.give(a.view(np.float32))
    assert pool.take(200) is not a
    again = pool.take(100)
    assert again.ctypes.data == a.ctypes.data
    assert again.dtype == np.uint8


def test_a_pool_for_many_threads():
    pool, held, lock = BufferPool(), set(), threading.Lock()

    def use():
        for _ in range(300):
            array = pool.take(64)
            with lock:
                assert array.ctypes.data not in held
                held.add(array.ctypes.data)
            with lock:
                held.remove(array.ctypes.data)
            pool.give(array)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pool._free[64]) <= 4


# -- both sides, turn by turn --------------------------------------------------------
def row(index, owner, start, stop, priority=0):
    return Row(index, owner, (Piece(0, start, stop),), priority, False, "float64")


def test_a_slow_worker_gets_the_newest_version_only():
    server, worker = unstarted(2, eager_bytes=-1)
    model = Tiny().model()
    rows, pool = [row(0, 0, 0, 20)], BufferPool()
    told = []
    delivery = VersionedDelivery(
        server, rows, model, Roles.of(0, 2, 0),
        lambda *args: told.append((args[1], args[2][0])), pool,
    )  # fmt: skip
    (master,) = delivery.master(rows[0])
    assert not np.shares_memory(master, model.blobs[0].data)
    for version in range(1, 6):
        master[...] = 10 * version
        delivery.deliver(rows[0], version)
        server._turn()
    assert told == [(k, 10 * k) for k in range(1, 6)], "the worker here sees all"
    assert len(server.transport.began) == 1, "one at a time"
    got = []

    def receive():
        message = np.empty(64 + 160, np.uint8)

        def came():
            version = int(message[:8].view(np.int64)[0])
            got.append((version, set(message[64:].view(np.float64).tolist())))
            receive()

        worker.receive(0, values_tag(0), message, came)

    receive()
    turn_all([server, worker], lambda: len(got) == 2 and not server._sending)
    for _ in range(5):
        turn_all([server, worker], lambda: True)
    assert got == [(1, {10.0}), (5, {50.0})]


@pytest.mark.parametrize("policy", SORT_POLICIES)
def test_gradients_of_one_row_keep_their_order(policy):
    """However much larger the later one is: the server counts them by their order."""
    settings = ClusterSettings(row_bytes=100)
    worker, server = unstarted(2, settings, eager_bytes=-1)
    tiny = Tiny()
    rows = [row(k, 1, 50 * k, 50 * k + 50) for k in range(4)]
    client = StaleClient(
        worker, rows, tiny.model(), Roles.of(0, 2, 0), None, SendOrder(policy),
        BufferPool(),
    )  # fmt: skip
    # Fills the window, so that the gradients of some clocks wait together.
    worker.send(1, FIRST_DATA_TAG + 999, np.zeros(100, np.uint8), priority=-(1 << 40))
    worker._turn()
    clocks = 5
    for clock in range(clocks):
        tiny.blobs[0].diff[...] = 10.0 ** (clock - 9)
        for k in range(len(rows)):
            client.push(k)
        worker._turn()
    buffers, got = np.empty((len(rows), clocks, 50)), []
    for k, clock in np.ndindex(len(rows), clocks):
        buffer, then = buffers[k, clock], lambda: got.append(1)
        server.receive(0, gradient_tag(k), buffer, then)
    server.receive(0, FIRST_DATA_TAG + 999, np.empty(100, np.uint8), lambda: None)
    turn_all([worker, server], lambda: len(got) == clocks * len(rows))
    for each in buffers:
        np.testing.assert_allclose(each[:, 0], 10.0 ** (np.arange(clocks) - 9.0))


def test_newer_values_replace_those_not_yet_put_in_place():
    _, courier = unstarted(2)
    tiny, pool = Tiny(), BufferPool()
    rows = [row(0, 1, 0, 20)]
    client = StaleClient(
        courier, rows, tiny.model(iteration=4), Roles.of(1, 2, 0), None,
        SendOrder("FIFO"), pool,
    )  # fmt: skip
    assert client.is_ready(0, 4)
    assert not client.is_ready(0, 5)
    assert not client.settle(0), "nothing new"
    flat = tiny.blobs[0].data.reshape(-1)
    before = flat.copy()
    for version in (5, 6):
        client.deliver(0, version, np.full(20, float(version)))
    assert client.is_ready(0, 6)
    np.testing.assert_array_equal(flat, before), "not before settle"
    assert client.settle(0)
    assert set(flat[:20]) == {6.0}
    np.testing.assert_array_equal(flat[20:], before[20:])
    assert not client.settle(0)
    assert sum(len(each) for each in pool._free.values()) == 2, "both came back"
