"""The network inside one process: the contract, its delays and its failures."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from poseidon_caffe.comm.fake import FakeAbortError, FakeNetwork
from poseidon_caffe.errors import ClusterError
from tests.comm.contract import CASES, Hand


def _on_all(network, function):
    """Run ``function(transport)`` on every rank, each in its thread."""
    errors = []

    def run(rank):
        try:
            function(network.transport(rank))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(r,)) for r in range(network.size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class _Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _pair(network, tag=1, size=4):
    """A message from rank 0 to rank 1, both ends begun."""
    a, b = network.transport(0), network.transport(1)
    got = np.zeros(size)
    return a, b, got, a.send(1, tag, np.ones(size)), b.receive(0, tag, got)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("eager_bytes", [-1, 4096, math.inf])
def test_contract(case, eager_bytes):
    for size in (1, 3):
        network = FakeNetwork(size, delay_s=(0, 2e-3), eager_bytes=eager_bytes)
        _on_all(network, case)


def test_order_between_tags_is_any_and_seeded():
    def arrivals(seed):
        clock = _Clock()
        network = FakeNetwork(2, seed=seed, delay_s=(0, 1), clock=clock)
        a, b = network.transport(0), network.transport(1)
        for tag in range(8):
            a.send(1, tag, np.zeros(1))
        tags = {
            id(r): tag for tag in range(8) for r in [b.receive(0, tag, np.zeros(1))]
        }
        seen = []
        while len(seen) < 8:
            clock.now += 0.001
            seen += [tags[id(request)] for request in b.finished()]
        return seen

    assert arrivals(1) == arrivals(1) != arrivals(2)
    assert arrivals(1) != sorted(arrivals(1))


def test_a_message_arrives_when_its_delay_is_over():
    clock, asked = _Clock(), []

    def delay_s(*message):
        asked.append(message)
        return 5.0

    network = FakeNetwork(2, delay_s=delay_s, clock=clock)
    _, b, got, _, request = _pair(network)
    assert asked == [(0, 1, 1, 32)]
    clock.now = 4.9
    assert b.finished() == []
    clock.now = 5.0
    assert b.finished() == [request]
    assert got.all()


def test_one_rank_sends_no_faster_than_its_link():
    clock = _Clock()
    network = FakeNetwork(3, bandwidth_bytes_s=100, clock=clock)
    ends = [network.transport(rank) for rank in range(3)]
    for peer in (1, 2):
        ends[0].send(peer, 0, np.zeros(100, np.uint8))
        ends[peer].receive(0, 0, np.zeros(100, np.uint8))
    arrived = []
    for clock.now in (0.9, 1.0, 1.9, 2.0):
        arrived.append([len(ends[peer].finished()) for peer in (1, 2)])
    assert arrived == [[0, 0], [1, 0], [0, 0], [0, 1]]
    assert network.sent_bytes == [200, 0, 0]
    assert network.sent_messages == [2, 0, 0]


def test_a_small_message_leaves_before_its_receive_a_large_one_does_not():
    network = FakeNetwork(2, eager_bytes=8)
    a = network.transport(0)
    small, large = a.send(1, 0, np.ones(1)), a.send(1, 1, np.ones(2))
    assert a.finished() == [small]
    b, got = network.transport(1), np.zeros(2)
    request = b.receive(0, 1, got)
    assert a.finished() == []
    assert b.finished() == [request]
    assert a.finished() == [large]


def test_an_array_is_read_at_the_last_moment():
    # So that a sender which does not wait is found out.
    network = FakeNetwork(2)
    array, got = np.ones(1), np.zeros(1)
    network.transport(0).send(1, 0, array)
    array[:] = 9
    b = network.transport(1)
    b.receive(0, 0, got)
    b.finished()
    assert got == 9


@pytest.mark.parametrize("size", [4, 4000])
def test_sizes_that_differ_are_told_with_both_sides(size):
    network = FakeNetwork(2)
    network.transport(0).send(1, 7, np.zeros(size))
    b = network.transport(1)
    b.receive(0, 7, np.zeros(3))
    told = f"rank 0 sent {8 * size} bytes to rank 1 with tag 7, which expected 24"
    for _ in range(2):
        with pytest.raises(ClusterError, match=told):
            b.finished()


@pytest.mark.parametrize("size", [4, 4000])
def test_a_failed_rank_is_silent_for_ever(size):
    network = FakeNetwork(3)
    a, b, _, _, _ = _pair(network, size=size)
    network.fail(0)
    a.send(1, 2, np.zeros(1))
    b.receive(0, 2, np.zeros(1))
    assert a.finished() == b.finished() == []
    c, got = network.transport(2), np.zeros(1)
    request = c.receive(1, 0, got)
    b.send(2, 0, np.ones(1))
    assert c.finished() == [request]


def test_a_failure_can_be_told():
    network = FakeNetwork(2)
    network.fail(0, is_told=True)
    with pytest.raises(ClusterError, match="rank 0 has died"):
        network.transport(1).finished()


@pytest.mark.parametrize("size", [4, 4000])
def test_a_paused_rank_neither_sends_nor_receives_until_it_goes_on(size):
    clock = _Clock()
    network = FakeNetwork(2, clock=clock)
    network.pause(0, 3.0)
    a, b, got, sent, received = _pair(network, size=size)
    back = b.send(0, 5, np.ones(1))
    answer = a.receive(1, 5, np.ones(1))
    for clock.now in (1.0, 2.9):
        assert a.finished() == []
        assert b.finished() in ([], [back])
    clock.now = 3.0
    done = [*a.finished(), *b.finished(), *a.finished()]
    assert {sent, answer, received} <= set(done)
    assert got.all()


def test_a_rank_paused_without_end_can_be_resumed():
    clock = _Clock()
    network = FakeNetwork(2, clock=clock)
    network.pause(0)
    a, b, _, _, received = _pair(network)
    clock.now = 1e6
    assert a.finished() == b.finished() == []
    network.resume(0)
    a.finished()
    assert b.finished() == [received]


def test_what_left_before_the_pause_arrives():
    clock = _Clock()
    network = FakeNetwork(2, delay_s=(1, 1), clock=clock)
    a, b, _, sent, received = _pair(network)
    assert a.finished() == [sent]
    network.pause(0)
    clock.now = 1.0
    assert b.finished() == [received]


def test_a_lost_message_blocks_its_tag_only():
    clock = _Clock()
    network = FakeNetwork(
        2, delay_s=lambda s, p, tag, n: math.inf if tag == 1 else 0, clock=clock
    )
    _, b, _, _, _ = _pair(network, tag=1)
    _, _, _, _, other = _pair(network, tag=2)
    clock.now = 1e9
    assert b.finished() == [other]


def test_abort_ends_every_rank():
    network = FakeNetwork(2)
    a, b = network.transport(0), network.transport(1)
    with pytest.raises(
        FakeAbortError, match="rank 1 aborted the job with exit status 3"
    ):
        b.abort(3)
    with pytest.raises(FakeAbortError, match="rank 1"):
        a.finished()
    with pytest.raises(FakeAbortError):
        a.send(1, 0, np.zeros(1))
    assert network.aborted == (1, 3)


@pytest.mark.parametrize("size", [4, 4000])
def test_what_was_sent_before_closing_arrives(size):
    network = FakeNetwork(2)
    a, b = network.transport(0), network.transport(1)
    array, got = np.ones(size), np.zeros(size)
    a.send(1, 0, array)
    a.receive(1, 0, array)
    a.close()
    array[:] = 5
    request = b.receive(0, 0, got)
    assert b.finished() == [request]
    assert (got == 1).all()


def test_a_poll_that_finds_nothing_is_cheap():
    network = FakeNetwork(2)
    b = network.transport(1)
    for tag in range(300):
        b.receive(0, tag, np.zeros(1))
    start = time.perf_counter()
    for _ in range(1000):
        b.finished()
    assert time.perf_counter() - start < 0.1


def test_thousands_of_messages_are_quick():
    def chat(transport):
        hand = Hand(transport)
        for k in range(500):
            others = [p for p in range(transport.size) if p != transport.rank]
            hand.wait(
                *[hand.receive(p, k % 7, np.empty(64)) for p in others],
                *[hand.send(p, k % 7, np.zeros(64)) for p in others],
            )

    network = FakeNetwork(4, delay_s=(0, 1e-5))
    start = time.perf_counter()
    _on_all(network, chat)
    assert sum(network.sent_messages) == 6000
    assert time.perf_counter() - start < 20
