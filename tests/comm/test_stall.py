"""Stalls among real couriers on the fake network: told, then ended, cause named."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.diagnosis import Cause, Limits
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.heartbeat import Heartbeat
from poseidon_caffe.comm.process import GONE
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.stall import StallWatch
from poseidon_caffe.errors import ClusterError

LIMITS = Limits(interval_s=0.02, silent_s=0.25, warning_s=0.2, end_s=0.7)
STATES = {}


class StagedProcess:
    """Stands for processes that the fake network does not have."""

    def __init__(self, pid):
        self.pid = pid

    def state(self):
        return STATES.get(self.pid, "S")


class Rank:
    """A rank of a fake job: its courier, heart and stall watch, and what was told."""

    def __init__(self, network, rank):
        self.rank, self.told, self.error = rank, [], None
        self.courier = Courier(network.transport(rank), ClusterSettings())
        self.heart = Heartbeat(self.courier, LIMITS, StagedProcess)
        self.heart.layers = ("data", "conv1")
        self.stall = StallWatch(self.courier, self.heart, LIMITS, self.told.append)
        self.courier.call(self.heart.open)
        self.courier.call(lambda: self.courier.every(LIMITS.interval_s, self.turn))
        self.courier.start()
        self.thread = None

    def turn(self):
        self.heart.look_around()
        self.stall.check()
        self.heart.send()

    def wait(self, peer=None, *, label="row 5", go=None, is_patient=False):
        """Wait in a thread of its own, as a rank's main thread does."""
        condition = (go or threading.Event()).is_set

        def run():
            try:
                self.courier.wait_for(condition, Waiting(label, peer, is_patient))
            except ClusterError as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def expect(self, peer, label, floats=256):
        buffer = np.zeros(floats)
        self.courier.call(
            lambda: self.courier.receive(peer, 1000, buffer, bool, label=label)
        )

    def ends(self, limit_s=5.0):
        self.thread.join(limit_s)
        assert self.error is not None, self.told
        return str(self.error)


@contextmanager
def job(size, **options):
    network = FakeNetwork(size, **options)
    STATES.clear()
    ranks = [Rank(network, r) for r in range(size)]
    end = time.monotonic() + 5
    while any(n < 2 for r in ranks for n in r.heart.heard().values()):
        assert time.monotonic() < end
        time.sleep(0.005)
    try:
        yield network, ranks
    finally:
        for rank in ranks:
            rank.courier.fail(ClusterError("the test is over"))
            rank.courier.close(0.5)


def test_a_paused_rank_is_warned_of_then_ends_the_job():
    with job(3, hosts=["a", "b", "b"]) as (network, ranks):
        network.pause(2)
        ranks[0].expect(1, "fc6, row 3")
        ranks[0].wait(1, label="fc6")
        ranks[1].wait(2)
        start = time.monotonic()
        texts = [ranks[0].ends(), ranks[1].ends()]
        assert time.monotonic() - start < LIMITS.end_s + 0.5
        assert all(t.startswith("rank 2 (host b, pid 1002) ") for t in texts), texts
        assert any("has been silent for" in t for t in texts)
        assert "rank 0 waited for fc6 of rank 1 (a message of 2048 bytes" in texts[0]
        assert "due from rank 1, first fc6, row 3)" in texts[0]
        warning = ranks[0].told[0]
        assert warning.startswith("rank 0 (host a, pid 1000) has waited 0 s for fc6 of")
        assert "fc6, row 3" in warning


def test_a_failed_rank_ends_the_job():
    with job(2) as (network, ranks):
        network.fail(1)
        ranks[0].wait(1)
        assert "rank 1 (host localhost, pid 1001) has been silent" in ranks[0].ends()


def test_a_dead_process_ends_the_job_at_once_even_while_computing():
    with job(2) as (_, ranks):
        STATES[1001] = GONE
        time.sleep(0.15)
        start = time.monotonic()
        ranks[0].wait(1)
        assert "rank 1 (host localhost, pid 1001) has died" in ranks[0].ends()
        assert time.monotonic() - start < 0.3


def test_a_stopped_neighbour_is_told_at_once_by_one_rank_and_borne_for_a_while():
    with job(3) as (network, ranks):
        STATES[1002] = "T"
        network.pause(2)
        ranks[1].wait(2)
        time.sleep(0.15)
        assert [len(rank.told) for rank in ranks[:2]] == [1, 0]
        assert "rank 2 (host localhost, pid 1002) is stopped" in ranks[0].told[0]
        assert ranks[1].error is None
        assert "is stopped (SIGSTOP)" in ranks[1].ends()


def test_a_stop_that_ends_in_time_does_no_harm():
    with job(2) as (network, ranks):
        STATES[1001] = "T"
        network.pause(1)
        go = threading.Event()
        ranks[0].wait(1, go=go)
        time.sleep(0.5 * LIMITS.end_s)
        STATES.clear()
        network.resume(1)
        for _ in range(10):
            ranks[1].heart.beat(1, 0)
            time.sleep(0.1 * LIMITS.end_s)
        go.set()
        ranks[0].thread.join(5)
        assert ranks[0].error is None


def test_a_rank_that_hangs_in_a_layer_is_named_with_it():
    with job(3) as (_, ranks):
        ranks[2].heart.beat(12, 0)
        ranks[0].wait(1)
        ranks[1].wait(2)
        text = ranks[0].ends()
        assert text.startswith("rank 2 (host localhost, pid 1002) ")
        # Whichever rank found it first, the others take its word.
        texts = [text, ranks[1].ends()]
        assert any("in iteration 12, layer data, for" in t for t in texts)
        assert all("rank 2" in t.split(";")[0] for t in texts)


def test_a_rank_that_goes_on_is_borne_however_slow_it_is():
    with job(2) as (_, ranks):
        go = threading.Event()
        ranks[0].wait(1, go=go)
        for layer in range(30):
            ranks[1].heart.beat(3, layer % 2)
            time.sleep(0.05)
        go.set()
        ranks[0].courier.call(bool)
        ranks[0].thread.join(5)
        assert ranks[0].error is None
        # It was told of, ever more rarely.
        assert 1 <= len(ranks[0].told) <= 4
        assert "rank 1 (host localhost, pid 1001) is alive" in ranks[0].told[0]


def test_messages_that_come_are_progress():
    with job(2) as (_, ranks):
        go = threading.Event()
        ranks[0].wait(1, go=go)
        for tag in range(20):
            ranks[1].courier.call(
                lambda t=tag: ranks[1].courier.send(0, 1000 + t, np.zeros(1))
            )
            ranks[0].courier.call(
                lambda t=tag: ranks[0].courier.receive(1, 1000 + t, np.zeros(1), bool)
            )
            time.sleep(0.07)
        go.set()
        ranks[0].thread.join(5)
        assert ranks[0].error is None
        assert not ranks[0].told


def test_ranks_that_wait_for_one_another():
    with job(2) as (_, ranks):
        ranks[0].wait(1)
        ranks[1].wait(0)
        assert any(
            "all wait for one another" in text
            for text in (ranks[0].ends(), ranks[1].ends())
        )


def test_a_lost_message_is_found_out():
    def lose(source, peer, tag, size_bytes):
        return float("inf") if tag == 1000 else 0.0

    with job(2, delay_s=lose) as (_, ranks):
        ranks[1].courier.call(lambda: ranks[1].courier.send(0, 1000, np.zeros(256)))
        ranks[0].expect(1, "fc6, row 3")
        ranks[0].wait(1)
        ranks[1].wait(0)
        texts = [ranks[0].ends(), ranks[1].ends()]
        assert any("a message was lost" in text for text in texts), texts


def test_a_patient_rank_bears_those_that_live_but_not_the_silent():
    with job(2) as (network, ranks):
        ranks[0].wait(1, is_patient=True)
        time.sleep(1.5 * LIMITS.end_s)
        assert ranks[0].error is None
        assert not ranks[0].told
        network.pause(1)
        assert "has been silent" in ranks[0].ends()


def test_a_verdict_spreads():
    with job(3) as (_, ranks):
        ranks[2].heart.verdict = (1, Cause.STOPPED)
        ranks[2].courier.call(ranks[2].heart.send)
        ranks[0].wait(1)
        assert "pid 1001) was stopped (SIGSTOP)" in ranks[0].ends()


@pytest.mark.parametrize("culprit", [0, 1, 2, 3])
def test_nobody_blames_a_rank_that_only_waits(culprit):
    with job(4) as (network, ranks):
        network.pause(culprit)
        others = [rank for rank in ranks if rank.rank != culprit]
        for rank in others:
            rank.wait((rank.rank + 1) % 4)
        for rank in others:
            assert rank.ends().startswith(f"rank {culprit} "), rank.error
