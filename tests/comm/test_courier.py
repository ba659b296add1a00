"""The communication thread: what leaves first, who is told, how it ends."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from poseidon_caffe.comm.courier import FIRST_DATA_TAG, Courier, Waiting
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError, DataError
from tests.comm.couriers import on_couriers, turn_all, unstarted

DATA = FIRST_DATA_TAG
WHAT = Waiting("a test")


def bytes_(count, value=0):
    return np.full(count, value, np.uint8)


@pytest.fixture
def alone():
    """A started courier that has nobody to talk to."""
    courier = Courier(FakeNetwork(1).transport(0), ClusterSettings())
    courier.start()
    yield courier
    courier.close()


def tags_sent(courier):
    return [tag for _, tag, _ in courier.transport.began]


# -- what leaves first ---------------------------------------------------------------
def test_the_most_urgent_leaves_first_and_equals_in_order():
    a, _ = unstarted(2)
    for k, priority in enumerate([5, 3, 5, 1, 3]):
        a.send(1, DATA + k, bytes_(8), priority=priority)
    assert tags_sent(a) == [], "nothing leaves before the courier's turn"
    a._turn()
    assert tags_sent(a) == [DATA + k for k in (3, 1, 4, 0, 2)]


def test_few_are_under_way_so_that_an_urgent_one_overtakes():
    a, b = unstarted(2, ClusterSettings(row_bytes=1000), eager_bytes=-1)
    for k in range(6):
        a.send(1, DATA + k, bytes_(400), priority=10)
    a._turn()
    assert tags_sent(a) == [DATA, DATA + 1, DATA + 2], "while under 1000 bytes"
    a.send(1, DATA + 9, bytes_(400), priority=0)
    a._turn()
    assert len(tags_sent(a)) == 3, "the window is full"
    got = []
    for k in (0, 1, 2, 3, 4, 5, 9):
        b.receive(0, DATA + k, bytes_(400), lambda k=k: got.append(k))
    turn_all([a, b], lambda: len(got) == 7)
    assert tags_sent(a)[3] == DATA + 9


def test_a_message_larger_than_the_window_passes():
    a, b = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    got, buffer = [], bytes_(5000)
    a.send(1, DATA, bytes_(5000, 7))
    b.receive(0, DATA, buffer, lambda: got.append(1))
    turn_all([a, b], lambda: bool(got))
    assert (buffer == 7).all()


def test_every_peer_has_a_window_of_its_own():
    a, *_ = unstarted(3, ClusterSettings(row_bytes=100), eager_bytes=-1)
    for peer in (1, 2):
        for k in range(3):
            a.send(peer, DATA + k, bytes_(100))
    a._turn()
    assert a.transport.began == [(1, DATA, 100), (2, DATA, 100)]


def test_control_overtakes_all_data_whatever_is_under_way():
    a, b = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    for k in range(3):
        a.send(1, DATA + k, bytes_(100), priority=-9)
    a._turn()
    a.send(1, DATA - 1, bytes_(50))
    assert tags_sent(a) == [DATA, DATA - 1]
    got = []
    b.receive(0, DATA - 1, bytes_(50), lambda: got.append(1))
    turn_all([a, b], lambda: bool(got) and len(a.pending()) == 3)
    assert tags_sent(a) == [DATA, DATA - 1], "the window is still full"


def test_control_that_nobody_reads_holds_nothing_back():
    a, b = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    a.send(1, DATA - 1, bytes_(5000))
    a.send(1, DATA, bytes_(100))
    got = []
    b.receive(0, DATA, bytes_(100), lambda: got.append(1))
    turn_all([a, b], lambda: bool(got))


def test_control_that_is_read_gives_no_room():
    a, b = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    got = []
    a.send(1, DATA - 1, bytes_(5000), then=lambda: got.append(1))
    b.receive(0, DATA - 1, bytes_(5000), lambda: got.append(1))
    turn_all([a, b], lambda: len(got) == 2)
    for k in range(3):
        a.send(1, DATA + k, bytes_(100))
    a._turn()
    assert tags_sent(a) == [DATA - 1, DATA]


def test_one_tag_keeps_its_order_through_all_delays():
    def play(courier):
        count, buffers, done = 60, [], []
        rest = range(0, 2 * count, 2)

        def begin():
            for k in range(count):
                if courier.rank == 0:
                    value = np.full(1 + 300 * (k % 3), k, np.int64)
                    courier.send(1, DATA, value, then=lambda: done.append(1))
                else:
                    buffers.append(np.full(1 + 300 * (k % 3), -1, np.int64))
                    courier.receive(0, DATA, buffers[k], lambda: done.append(1))

        courier.call(begin)
        courier.wait_for(lambda: len(done) == count, WHAT)
        return [int(b[-1]) for b in buffers], len(rest)

    settings = ClusterSettings(row_bytes=2000)
    found = on_couriers(2, play, settings=settings, delay_s=(0, 0.002), eager_bytes=100)
    assert found[1][0] == list(range(60))


# -- the cap ---------------------------------------------------------------------------
class StepClock:
    """Stands for time in the bucket of a courier."""

    def __init__(self, courier, mbps):
        self.now_s = 0.0
        courier._bucket = type(courier._bucket)(mbps * 1e6 / 8, lambda: self.now_s)


def test_the_cap_holds_back_data_but_no_control():
    a, _ = unstarted(2)
    clock = StepClock(a, 8)  # a byte a microsecond
    for k in range(4):
        a.send(1, DATA + k, bytes_(1000))
    for _ in range(3):
        a._turn()
    assert tags_sent(a) == [DATA]
    a.send(1, 5, bytes_(10))
    assert tags_sent(a) == [DATA, 5]
    clock.now_s += 0.0011
    a._turn()
    assert tags_sent(a) == [DATA, 5, DATA + 1]
    clock.now_s += 1
    for _ in range(3):
        a._turn()
    assert len(tags_sent(a)) == 5


def test_under_the_cap_the_most_urgent_of_all_peers_leaves_first():
    a, *_ = unstarted(4)
    clock = StepClock(a, 8)
    for peer, priority in ((1, 9), (2, 5), (3, 1), (1, 8), (3, 5)):
        a.send(peer, DATA + priority, bytes_(10_000), priority=priority)
    for _ in range(5):
        a._turn()
        clock.now_s += 0.0101
    assert [(peer, tag - DATA) for peer, tag, _ in a.transport.began] == [
        (3, 1), (2, 5), (3, 5), (1, 8), (1, 9),
    ]  # fmt: skip


def test_a_capped_rank_sends_no_faster():
    size_bytes, mbps = 20_000, 16

    def play(courier):
        done = []

        def begin():
            for k in range(5):
                if courier.rank == 0:
                    then = lambda: done.append(1)  # noqa: E731
                    courier.send(1, DATA + k, bytes_(size_bytes), then=then)
                else:
                    courier.receive(
                        0, DATA + k, bytes_(size_bytes), lambda: done.append(1)
                    )

        since = time.monotonic()
        courier.call(begin)
        courier.wait_for(lambda: len(done) == 5, WHAT)
        return time.monotonic() - since

    took_s = on_couriers(2, play, settings=ClusterSettings(bandwidth_mbps=mbps))
    # The last message's debt is nobody's.
    assert min(took_s) > 0.8 * 4 * size_bytes * 8 / (mbps * 1e6)


# -- the other threads ---------------------------------------------------------------
def test_calls_run_in_order_in_the_one_thread(alone):
    seen = []
    for k in range(1000):
        alone.call(lambda k=k: seen.append((k, threading.current_thread().name)))
    alone.wait_for(lambda: len(seen) == 1000, WHAT)
    assert seen == [(k, "poseidon-comm") for k in range(1000)]


def test_a_call_may_call(alone):
    seen = []

    def step(k):
        seen.append(k)
        if k < 50:
            alone.call(lambda: step(k + 1))

    alone.call(lambda: step(0))
    alone.wait_for(lambda: len(seen) == 51, WHAT)


def test_waiting_is_told_while_it_lasts(alone):
    go, seen = threading.Event(), []

    def look():
        if alone.waiting is None:
            alone.call(look)
            return
        seen.append(alone.waiting)
        go.set()

    alone.call(look)
    alone.wait_for(go.is_set, Waiting("values of conv1", 3))
    assert (seen[0].label, seen[0].peer, alone.waiting) == ("values of conv1", 3, None)
    assert time.monotonic() - seen[0].since_s < 10


def test_what_is_there_already_is_not_waited_for(alone):
    alone.fail(ClusterError("over"))
    alone.wait_for(lambda: True, WHAT)


def test_a_failure_ends_this_and_every_later_wait(alone):
    first = DataError("the disk is full")

    def late():
        if alone.waiting is None:
            alone.call(late)
            return
        alone.fail(first)
        alone.fail(ClusterError("a second one"))

    alone.call(late)
    since = time.monotonic()
    for _ in range(3):
        with pytest.raises(DataError, match="disk is full"):
            alone.wait_for(lambda: False, WHAT)
    assert time.monotonic() - since < 0.9, "told at once, not at the next look"
    assert alone.error is first


def test_a_failure_from_another_thread_while_waiting(alone):
    threading.Timer(0.02, lambda: alone.fail(ClusterError("rank 2 is gone"))).start()
    since = time.monotonic()
    with pytest.raises(ClusterError, match="rank 2 is gone"):
        alone.wait_for(lambda: False, WHAT)
    assert time.monotonic() - since < 0.9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("how", ["call", "timer", "receive", "send"])
def test_an_error_in_a_callback_is_every_waiters(how, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    courier = Courier(FakeNetwork(1).transport(0), ClusterSettings())
    courier.start()

    def fault():
        raise ZeroDivisionError("a fault in the code")

    def transfer():
        courier.send(0, DATA, bytes_(8), then=fault if how == "send" else None)
        then = fault if how == "receive" else lambda: None
        courier.receive(0, DATA, bytes_(8), then)

    begin = {"call": fault, "timer": lambda: courier.every(1, fault)}
    courier.call(begin.get(how, transfer))
    for _ in range(2):
        with pytest.raises(ClusterError, match=r"rank 0.*a fault in the code"):
            courier.wait_for(lambda: False, WHAT)
    courier.close()


def test_an_error_of_ours_is_told_as_it_is(alone):
    def fault():
        raise DataError("record 7 is damaged")

    alone.call(fault)
    with pytest.raises(DataError, match="record 7"):
        alone.wait_for(lambda: False, WHAT)


def test_a_dead_network_is_every_waiters_error():
    network = FakeNetwork(2)
    courier = Courier(network.transport(0), ClusterSettings())
    courier.start()
    network.fail(1, is_told=True)
    with pytest.raises(ClusterError, match="rank 1 has died"):
        courier.wait_for(lambda: False, WHAT)
    courier.close()


def test_timers_run_now_and_again(alone):
    ticks, tocks = [], []

    def begin():
        alone.every(0.01, lambda: ticks.append(time.monotonic()))
        alone.every(10, lambda: tocks.append(1))

    alone.call(begin)
    alone.wait_for(lambda: len(ticks) >= 5, WHAT)
    assert ticks[4] - ticks[0] >= 0.04
    assert tocks == [1]


def test_what_a_timer_brings_is_told_at_once(alone):
    ticks = []
    alone.call(lambda: alone.every(0.02, lambda: ticks.append(1)))
    since = time.monotonic()
    alone.wait_for(lambda: len(ticks) >= 3, WHAT)
    assert time.monotonic() - since < 0.5


def test_pending_names_queued_and_open_transfers():
    a, _ = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    for k in range(3):
        a.send(1, DATA + k, bytes_(100), label=f"row {k}")
    a.receive(1, DATA + 7, bytes_(30), lambda: None, label="row 7")
    a._turn()
    found = {(each.label, each.is_send, each.size_bytes) for each in a.pending()}
    assert found == {
        ("row 0", True, 100), ("row 1", True, 100), ("row 2", True, 100),
        ("row 7", False, 30),
    }  # fmt: skip


def test_traffic_is_counted_when_it_leaves_and_when_it_is_here():
    class Counter:
        def __init__(self):
            self.seen = []

        def sent(self, tag, size_bytes):
            self.seen.append(("sent", tag, size_bytes))

        def received(self, tag, size_bytes):
            self.seen.append(("received", tag, size_bytes))

    a, b = unstarted(2, ClusterSettings(row_bytes=100), eager_bytes=-1)
    a.traffic, b.traffic = Counter(), Counter()
    a.send(1, DATA, bytes_(100))
    a.send(1, DATA + 1, bytes_(100), label="still waits")
    a.send(1, 7, bytes_(10))
    a._turn()
    assert a.traffic.seen == [("sent", 7, 10), ("sent", DATA, 100)]
    assert b.traffic.seen == []
    b.receive(0, DATA, bytes_(100), lambda: None)
    b.receive(0, 7, bytes_(10), lambda: None)
    turn_all([a, b], lambda: len(a.traffic.seen + b.traffic.seen) == 5)
    assert a.traffic.seen[2:] == [("sent", DATA + 1, 100)]
    assert set(b.traffic.seen) == {("received", DATA, 100), ("received", 7, 10)}


def test_close_sends_what_is_queued():
    count = 40

    def play(courier):
        buffers = [bytes_(1000) for _ in range(count)]
        done = []

        def begin():
            for k in range(count):
                if courier.rank == 0:
                    courier.send(1, DATA + k, bytes_(1000, k))
                else:
                    courier.receive(0, DATA + k, buffers[k], lambda: done.append(1))

        courier.call(begin)
        if courier.rank == 0:
            courier.close()
            return not courier._thread.is_alive()
        courier.wait_for(lambda: len(done) == count, WHAT)
        return [int(b[0]) for b in buffers]

    settings = ClusterSettings(row_bytes=3000, bandwidth_mbps=50)
    assert on_couriers(2, play, settings=settings, eager_bytes=10) == [
        True,
        list(range(count)),
    ]


def test_close_does_not_wait_for_ever():
    network = FakeNetwork(2, eager_bytes=-1)
    courier = Courier(network.transport(0), ClusterSettings())
    courier.start()
    courier.call(lambda: courier.send(1, DATA, bytes_(10)))
    since = time.monotonic()
    assert not courier.close(0.05)
    assert time.monotonic() - since < 5
    assert not courier._thread.is_alive()


def test_close_before_the_start_and_twice(alone):
    Courier(FakeNetwork(1).transport(0), ClusterSettings()).close()
    alone.close()
    alone.close()


# -- what waits for something else than messages -------------------------------------
def test_what_awaits_a_condition_is_done_in_order(alone):
    happened, done = set(), []
    for k in range(3):
        alone.when(lambda k=k: k in happened, lambda k=k: done.append(k))
    happened.update({1, 2})
    time.sleep(0.01)
    assert not done, "the first has not happened"
    happened.add(0)
    alone.wait_for(lambda: len(done) == 3, WHAT)
    assert done == [0, 1, 2]


def test_what_is_awaited_is_done_before_the_end():
    courier = Courier(FakeNetwork(1).transport(0), ClusterSettings())
    courier.start()
    since, done = time.monotonic(), []
    courier.when(lambda: time.monotonic() > since + 0.05, lambda: done.append(1))
    assert courier.close()
    assert done
