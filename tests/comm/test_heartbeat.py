"""Heartbeats between real couriers on the fake network."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.diagnosis import Cause, Limits
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.heartbeat import HEARTBEAT_TAG, Heartbeat, Pulse
from poseidon_caffe.comm.process import GONE
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.couriers import turn_all, unstarted

LIMITS = Limits(interval_s=0.02, silent_s=0.2, warning_s=0.3, end_s=1)
LAYERS = ("data", "conv1", "loss")


class StagedProcess:
    """Stands for processes that the fake network does not have."""

    states: dict[int, str]

    def __init__(self, pid):
        self.pid = pid

    def state(self):
        return self.states.get(self.pid, "S")


@contextmanager
def hearts(size, network=None, watch=None):
    network = network or FakeNetwork(size)
    couriers = [Courier(network.transport(r), ClusterSettings()) for r in range(size)]
    beats = [Heartbeat(c, LIMITS, watch) for c in couriers]
    for beat in beats:
        beat.layers = LAYERS
    for courier, beat in zip(couriers, beats, strict=True):
        courier.call(beat.open)
        courier.call(
            lambda c=courier, b=beat: c.every(LIMITS.interval_s, partial(turn, b))
        )
        courier.start()
    try:
        yield couriers, beats
    finally:
        for courier in couriers:
            courier.close(0.5)


def turn(beat):
    beat.look_around()
    beat.send()


def becomes(condition, limit_s=5.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def everybody_heard(beats):
    becomes(lambda: all(n > 1 for b in beats for n in b.heard().values()))


@pytest.mark.parametrize(
    "pulse",
    [
        Pulse(),
        Pulse(
            2**32 - 1, 123456, 3, True, 1.5, False, 2, Cause.STUCK, frozenset({0, 4})
        ),
        Pulse(has_left=True, blames=0, blames_for=Cause.FAULT),
    ],
)
def test_a_pulse_survives_the_journey(pulse):
    message = np.full(8 + 5, np.nan)
    pulse.write(message)
    assert Pulse.read(message) == pulse


def test_ranks_know_where_the_others_are():
    with hearts(3) as (_, beats):
        beats[2].beat(7, 1)
        becomes(lambda: beats[0].signs()[2].layer == "conv1")
        sign = beats[0].signs()[2]
        assert (sign.rank, sign.iteration, sign.is_waiting) == (2, 7, False)
        assert sign.pid == 1002
        assert [s.rank for s in beats[1].signs()] == [0, 1, 2]
        beats[2].beat(8)
        becomes(lambda: beats[0].signs()[2].iteration == 8)
        assert beats[0].signs()[2].layer == ""


def test_a_beat_is_cheap():
    beat = Heartbeat(Courier(FakeNetwork(2).transport(0), ClusterSettings()), LIMITS)
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        for layer in range(1000):
            beat.beat(1, layer)
        best = min(best, time.perf_counter() - start)
    assert best / 1000 < 2e-6


def test_waiting_is_told_and_for_whom():
    with hearts(3) as (couriers, beats):
        go = threading.Event()
        thread = threading.Thread(
            target=couriers[1].wait_for, args=(go.is_set, Waiting("row 5", 2))
        )
        thread.start()
        becomes(lambda: beats[0].signs()[1].is_waiting)
        becomes(lambda: beats[0].signs()[1].awaits == {2})
        becomes(lambda: beats[0].signs()[1].idle_s > 5 * LIMITS.interval_s)
        go.set()
        couriers[1].call(lambda: None)
        thread.join()
        becomes(lambda: not beats[0].signs()[1].is_waiting)


def test_open_receives_are_told():
    with hearts(3) as (couriers, beats):
        array = np.zeros(4)
        couriers[0].call(lambda: couriers[0].receive(2, 1000, array, lambda: None))
        becomes(lambda: beats[1].signs()[0].awaits == {2})
        couriers[2].call(lambda: couriers[2].send(0, 1000, np.ones(4)))
        becomes(lambda: beats[1].signs()[0].awaits == set())


def test_beats_and_messages_are_signs_of_life_but_heartbeats_are_not():
    with hearts(2) as (couriers, beats):
        idle_s = lambda: beats[1].signs()[0].idle_s  # noqa: E731
        for sign_of_life in (
            lambda: beats[0].beat(3, 0),
            lambda: couriers[0].call(lambda: couriers[0].send(1, 1000, np.ones(4))),
        ):
            becomes(lambda: idle_s() > 0.2)
            sign_of_life()
            becomes(lambda: idle_s() < 0.15)


def test_a_paused_rank_falls_silent_and_gets_no_pile_of_heartbeats():
    network = FakeNetwork(3)
    with hearts(3, network) as (_, beats):
        everybody_heard(beats)
        network.pause(1)
        becomes(lambda: beats[0].signs()[1].silent_s > LIMITS.silent_s)
        time.sleep(10 * LIMITS.interval_s)
        assert beats[0].signs()[2].silent_s < LIMITS.silent_s
        under_way = network._channels[0, 1, HEARTBEAT_TAG].sends
        assert 1 <= len(under_way) <= 5
        network.resume(1)
        becomes(lambda: beats[0].signs()[1].silent_s < LIMITS.silent_s)
        heard = beats[1].heard()[0]
        becomes(lambda: beats[1].heard()[0] > heard + 10)


def test_a_failed_rank_stays_silent():
    network = FakeNetwork(2)
    with hearts(2, network) as (_, beats):
        everybody_heard(beats)
        network.fail(1)
        becomes(lambda: beats[0].signs()[1].silent_s > 2 * LIMITS.silent_s)


def test_neighbours_processes_are_looked_at():
    watch = type("Staged", (StagedProcess,), {"states": {}})
    with hearts(2, watch=watch) as (_, beats):
        becomes(lambda: beats[0].signs()[1].process == "S")
        watch.states[1001] = "T"
        becomes(lambda: beats[0].signs()[1].process == "T")
        watch.states[1001] = GONE
        assert beats[0].look()[1].process == GONE
        becomes(lambda: beats[0].signs()[1].process == GONE)


def test_processes_of_other_machines_are_not():
    watch = type("Staged", (StagedProcess,), {"states": {1001: GONE}})
    with hearts(2, FakeNetwork(2, hosts=["a", "b"]), watch) as (_, beats):
        everybody_heard(beats)
        assert beats[0].look()[1].process == ""


def test_a_verdict_is_told_even_to_those_that_do_not_answer():
    with hearts(2) as (couriers, beats):
        everybody_heard(beats)
        beats[1].verdict = (0, Cause.SILENT)
        couriers[1].call(beats[1].send)
        becomes(lambda: beats[0].signs()[1].blames == 0)
        assert beats[0].signs()[1].blames_for is Cause.SILENT


def test_a_beat_while_the_goodbye_is_on_its_way_sends_no_second_one():
    couriers = unstarted(2, eager_bytes=-1)
    beats = [Heartbeat(courier, LIMITS, None) for courier in couriers]
    for beat in beats:
        beat.open()
    for beat in beats:
        beat.leave()
        beat.send()
    turn_all(couriers, lambda: all(beat.is_done() for beat in beats))
    assert not any(beat.is_sending() for beat in beats), "nobody listens any more"


def test_goodbyes_leave_nothing_under_way():
    with hearts(3) as (couriers, beats):
        everybody_heard(beats)
        for late, (courier, beat) in enumerate(zip(couriers, beats, strict=True)):
            assert not beat.is_done()
            assert beat.awaited() in {None, *range(late, 3)} - {late}
            courier.call(beat.leave)
            time.sleep(2 * LIMITS.interval_s)
        for courier, beat in zip(couriers, beats, strict=True):
            becomes(beat.is_done)
            assert beat.awaited() is None
            becomes(lambda c=courier: not c.pending())
