"""What a poll costs on rank 0, with many receives and sends open; in µs."""

from __future__ import annotations

import time

import numpy as np

from poseidon_caffe.comm.mpi import open_mpi
from tests.comm.contract import Hand

COUNT = 300


def poll_us(transport):
    """The best of many short trials, so that a busy machine does not matter."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        for _ in range(20):
            assert transport.finished() == []
        best = min(best, (time.perf_counter() - start) / 20)
    return 1e6 * best


transport = open_mpi()
hand = Hand(transport)
if transport.rank == 0:
    print("idle", poll_us(transport))
    small = np.empty((COUNT, 1))
    for tag in range(COUNT):
        hand.receive(1, 100 + tag, small[tag])
    print("receives", poll_us(transport))
    large = np.zeros(1 << 14)
    for _ in range(COUNT):
        hand.send(1, 50, large)
    print("sends", poll_us(transport))
    hand.send(1, 51, small[:1])
    hand.wait()
else:
    # Meets nothing before rank 0 has measured: no receive for its large sends.
    hand.wait(hand.receive(0, 51, np.empty(1)))
    for tag in range(COUNT):
        hand.send(0, 100 + tag, np.zeros(1))
        hand.receive(0, 50, np.empty(1 << 14))
        hand.wait()
transport.close()
