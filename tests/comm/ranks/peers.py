"""Rank 1 and rank 0 disagree, or rank 1 stops; rank 0 says what it was told."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np

from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.errors import ClusterError
from tests.comm.contract import Hand

transport = open_mpi(close_timeout_s=1)
hand = Hand(transport, timeout_s=100)


def disagrees():
    if transport.rank == 1:
        hand.send(0, 7, np.zeros(5))
        hand.wait(hand.receive(0, 8, np.zeros(1)))
    else:
        hand.wait(hand.receive(1, 7, np.zeros(3)))


def disagrees_early():
    if transport.rank == 1:
        hand.send(0, 7, np.zeros(5))
        hand.wait(hand.receive(0, 8, np.zeros(1)))
    else:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            hand.poll()
        hand.receive(1, 7, np.zeros(3))


def stops():
    if transport.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    transport.close()


def dies():
    if transport.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    hand.wait(hand.receive(1, 7, np.zeros(3)))


hand.barrier()
try:
    {f.__name__: f for f in (disagrees, disagrees_early, stops, dies)}[sys.argv[1]]()
except ClusterError as error:
    print(f"rank {transport.rank} was told: {error}", flush=True)
    transport.abort(9)
