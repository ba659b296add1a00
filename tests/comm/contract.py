"""What every transport must do: run by threads on the fake, by ranks under mpirun.

Each case is called once on every rank, with the same cases in the same order.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from poseidon_caffe.errors import ClusterError

__all__ = ["CASES", "Hand"]

_LARGE_BYTES = 100 << 20


class Hand:
    """Sends and receives with a wait, for programs that do one thing at a time."""

    def __init__(self, transport, timeout_s=60):
        self.transport, self.timeout_s = transport, timeout_s
        self.open = {}

    def send(self, peer, tag, array):
        request = self.transport.send(peer, tag, array)
        self.open[id(request)] = request
        return request

    def receive(self, peer, tag, array):
        request = self.transport.receive(peer, tag, array)
        self.open[id(request)] = request
        return request

    def poll(self):
        done = self.transport.finished()
        if not done:
            time.sleep(0)  # the fake's ranks share one interpreter, others few cores
        for request in done:
            assert self.open.pop(id(request)) is request  # each once, and ours
        return done

    def wait(self, *requests):
        """Until these are finished; all that are open when none are named."""
        names = {id(r) for r in requests} or set(self.open)
        end = time.monotonic() + self.timeout_s
        while names & set(self.open):
            self.poll()
            assert time.monotonic() < end, "nothing arrived"

    def barrier(self, tag=9):
        token, others = np.zeros(1), range(self.transport.size)
        got = [np.empty(1) for _ in others]
        requests = [self.receive(p, tag, got[p]) for p in others]
        self.wait(*requests, *[self.send(p, tag, token) for p in others])


def names_the_job(transport):
    assert 0 <= transport.rank < transport.size
    assert len(transport.hosts) == len(transport.pids) == transport.size
    assert len(set(transport.pids)) == transport.size
    assert all(isinstance(host, str) and host for host in transport.hosts)


def keeps_order_within_a_tag(transport):
    hand, count = Hand(transport), 200
    others = range(transport.size)
    # Sizes on both sides of what is sent eagerly.
    lengths = [1 if k % 3 else 2000 for k in range(count)]
    got = {(p, k): np.empty(lengths[k]) for p in others for k in range(count)}
    for peer in others:
        for k in range(count):
            hand.receive(peer, 20, got[peer, k])
    for k in range(count):
        for peer in others:
            hand.send(peer, 20, np.full(lengths[k], 1000.0 * transport.rank + k))
    hand.wait()
    for (peer, k), array in got.items():
        assert (array == 1000.0 * peer + k).all()


def tags_do_not_mix(transport):
    hand, peer = Hand(transport), (transport.rank + 1) % transport.size
    before = (transport.rank - 1) % transport.size
    tags = np.random.default_rng(5).permutation(64).tolist()
    got = {tag: np.empty(3, np.int32) for tag in tags}
    for tag in sorted(tags):
        hand.receive(before, 100 + tag, got[tag])
    for tag in tags:
        hand.send(peer, 100 + tag, np.full(3, tag, np.int32))
    hand.wait()
    assert all((got[tag] == tag).all() for tag in tags)


def tags_reach_far(transport):
    # Rows are numbered from 1000 on and factors from a million on.
    hand, got = Hand(transport), np.empty(1)
    hand.receive(transport.rank, 1_000_000 + 4096, got)
    hand.send(transport.rank, 1_000_000 + 4096, np.ones(1))
    hand.wait()
    assert got == 1


def many_are_outstanding(transport):
    hand, count = Hand(transport), 1000
    others = range(transport.size)
    got = {(p, t): np.empty(16, np.float32) for p in others for t in range(count)}
    for (peer, t), array in got.items():
        hand.receive(peer, 1000 + t, array)
    assert hand.poll() == [] or transport.size > 1
    for t in reversed(range(count)):
        for peer in others:
            hand.send(peer, 1000 + t, np.full(16, t + transport.rank, np.float32))
    hand.wait()
    assert all((array == t + p).all() for (p, t), array in got.items())


def carries_large_and_empty(transport):
    hand, peer = Hand(transport), (transport.rank + 1) % transport.size
    before = (transport.rank - 1) % transport.size
    large = np.full(_LARGE_BYTES // 8, transport.rank, np.int64)
    large[-1] = 77
    got, nothing = np.empty_like(large), np.empty((0, 5))
    hand.receive(before, 30, got)
    hand.receive(before, 31, nothing)
    hand.send(peer, 30, large)
    hand.send(peer, 31, np.empty((5, 0)))
    hand.wait()
    assert got[-1] == 77
    assert (got[:-1] == before).all()


def carries_any_dtype_and_shape(transport):
    hand, peer = Hand(transport), (transport.rank + 1) % transport.size
    before = (transport.rank - 1) % transport.size
    for k, dtype in enumerate(("f4", "f8", "u1", "i8", "f2", "bool")):
        for j, shape in enumerate(((), (3,), (2, 3, 4))):
            got = np.zeros(shape, dtype)
            hand.receive(before, 40 + 3 * k + j, got)
            hand.send(peer, 40 + 3 * k + j, np.ones(shape, dtype))
            hand.wait()
            assert (got == 1).all()


def a_buffer_is_free_once_sent(transport):
    hand, others = Hand(transport), range(transport.size)
    for size in (4, 100_000):
        got = {(p, k): np.empty(size) for p in others for k in range(8)}
        for (peer, _), array in got.items():
            hand.receive(peer, 60, array)
        mine = np.empty(size)
        for k in range(8):
            mine[...] = k
            hand.wait(*[hand.send(peer, 60, mine) for peer in others])
            mine[...] = np.nan  # what was sent must not see this
        hand.wait()
        assert all((array == k).all() for (_, k), array in got.items())


def waits_for_its_receive(transport):
    hand, rank = Hand(transport), transport.rank
    small, large = np.ones(1), np.ones(1 << 20)
    hand.send(rank, 70, small)
    hand.send(rank, 71, large)
    for _ in range(100):
        hand.poll()
    got = [np.zeros_like(large), np.zeros_like(small)]
    hand.receive(rank, 71, got[0])
    hand.receive(rank, 70, got[1])
    hand.wait()
    assert all((array == 1).all() for array in got)


def refuses_what_it_cannot_carry(transport):
    square, frozen = np.zeros((4, 4)), np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ClusterError, match=r"rank 0 \(tag 8\) is not C-contiguous"):
        transport.send(0, 8, square.T[1:])
    with pytest.raises(ClusterError, match=r"rank 0 \(tag 8\) is read-only"):
        transport.receive(0, 8, frozen)
    with pytest.raises(ClusterError, match=r"2147483648 bytes .*rank 0 \(tag 8\)"):
        transport.send(0, 8, np.empty(1 << 28))
    for refused in (transport.send, transport.receive):
        with pytest.raises(ClusterError, match=f"rank {transport.size}"):
            refused(transport.size, 8, square)
        with pytest.raises(ClusterError, match="rank -1"):
            refused(-1, 8, square)


CASES = (
    names_the_job,
    keeps_order_within_a_tag,
    tags_do_not_mix,
    tags_reach_far,
    many_are_outstanding,
    carries_large_and_empty,
    carries_any_dtype_and_shape,
    a_buffer_is_free_once_sent,
    waits_for_its_receive,
    refuses_what_it_cannot_carry,
)
