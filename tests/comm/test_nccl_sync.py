"""Means that GPUs make themselves: the steps are those of one process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.array import host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.comm.nccl_sync import ReducedModel, ReducingAttachment
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import DONE
from tests.comm import support
from tests.comm.support import MOMENTUM, RATE, Tiny
from tests.comm.test_mirror import SCHEDULES, Far

RANKS, CLOCKS = 3, 5


class Meeting:
    """Where the ranks of one process put their arrays; means in rank order."""

    def __init__(self, size):
        self.size, self.lock = size, threading.Condition()
        self.rounds: dict[int, dict[int, np.ndarray]] = {}

    def mean(self, number, rank, values):
        with self.lock:
            parts = self.rounds.setdefault(number, {})
            parts[rank] = values
            self.lock.notify_all()
            self.lock.wait_for(lambda: len(parts) == self.size)
        return sum(parts[k] for k in range(self.size)) / self.size


class StreamReducer:
    """As NCCL does it: on a stream of its own, after what compute was given."""

    def __init__(self, device, meeting, rank):
        self.device, self.meeting, self.rank = device, meeting, rank
        self.stream, self.rounds, self.closed = device.stream(), 0, False

    def mean(self, array):
        self.stream.wait_for(self.device.compute.record())
        number, self.rounds = self.rounds, self.rounds + 1
        memory = host_view(array)

        def kernel():
            memory[...] = self.meeting.mean(number, self.rank, memory.copy())

        self.stream.give(kernel)
        # A GPU comes to it by itself, whatever the host waits for.
        threading.Timer(0.001, self.stream.finish).start()
        return self.stream.record()

    def hold(self, moment):
        self.device.compute.wait_for(moment)

    def close(self):
        self.device.synchronise()
        self.closed = True


def update(tiny, sync, history):
    """The solver's step, on the device."""
    for slot in tiny.slots:
        sync.wait(slot.index)
        if slot.statistics:
            continue
        data, diff = (
            host_view(a)
            for a in (tiny.blobs[slot.index].data, tiny.blobs[slot.index].diff)
        )
        old = history[slot.index]

        def kernel(data=data, diff=diff, old=old):
            old *= MOMENTUM
            old += RATE * diff
            data -= old

        tiny.device.do(kernel)


def drive(tiny, attached, worker):
    observer, sync = attached.observer, attached.sync
    history = [np.zeros(blob.shape) for blob in tiny.blobs]
    for iteration in range(CLOCKS):
        for blob in tiny.blobs:
            blob.clear_diff()
        for layer in range(tiny.layers):
            observer.before_forward(layer)
        tiny.statistics_step(worker, iteration)
        for layer in reversed(range(tiny.layers)):
            if layer < len(tiny.products):
                tiny.factors(layer, worker, iteration, 0)
                tiny.backward(layer)
            for slot in tiny.slots:
                if slot.ready_after == layer:
                    observer.grad_ready(slot, DONE)
        observer.backward_done()
        update(tiny, sync, history)
        assert sync.agree(1 << worker) in {0, 0b111}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_order_of_the_streams_gives_the_same(schedule):
    meeting, reducers = Meeting(RANKS), []

    def work(rank, cluster):
        device = EmulatedDevice(schedule=Schedule(*schedule, seed=rank))
        tiny = Far(device=device, statistics=True)
        reducers.append(StreamReducer(device, meeting, rank))
        model = ReducedModel(tiny.slots, tiny.blobs)
        attached = ReducingAttachment(cluster, model, reducers[-1])
        drive(tiny, attached, rank)
        assert attached.sync.gather({"rank": rank}) in (
            None, [{"rank": k} for k in range(RANKS)],
        )  # fmt: skip
        attached.sync.collect_history()
        attached.sync.finish()
        return tiny.state()

    found = support.together(RANKS, ClusterSettings(), work, timeout_s=20)
    expected = support.alone(Tiny(statistics=True), RANKS, CLOCKS)
    for state in found:
        np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)
        assert state.tobytes() == found[0].tobytes()
    assert all(reducer.closed for reducer in reducers)


def test_what_is_still_is_left_alone_and_all_is_updated_here():
    meeting = Meeting(1)

    def work(rank, cluster):
        tiny = Far(device=EmulatedDevice())
        reducer = StreamReducer(tiny.device, meeting, rank)
        model = ReducedModel(tiny.slots, tiny.blobs, 0, frozenset({0, 3}))
        attached = ReducingAttachment(cluster, model, reducer)
        assert not attached.plan.rows
        for slot in tiny.slots:
            assert attached.sync.updates_locally(slot.index)
            attached.observer.grad_ready(slot, DONE)
        attached.sync.finish()
        return reducer.rounds

    assert support.together(1, ClusterSettings(), work) == [4]


class Unfinished:
    """The end of a mean that is there when all ranks have begun it."""

    def __init__(self, begun, size):
        self.begun, self.size = begun, size

    def done(self):
        return len(self.begun) == self.size


class LateReducer:
    """Means that end when the last rank comes; nobody can wait for them but so."""

    def __init__(self, begun, rank, size):
        self.begun, self.rank, self.size = begun, rank, size

    def mean(self, array):
        self.begun.add(self.rank)
        return Unfinished(self.begun, self.size)

    def hold(self, moment):
        pass

    def close(self):
        pass


def agree_after_a_mean(late_s, settings):
    """What rank 0 gets where rank 1 begins its mean so much later."""
    begun, go_on = set(), threading.Event()

    def work(rank, cluster):
        tiny = Far(device=EmulatedDevice())
        model = ReducedModel(tiny.slots, tiny.blobs)
        attached = ReducingAttachment(cluster, model, LateReducer(begun, rank, 2))
        if rank:
            go_on.wait(late_s)
        try:
            attached.observer.grad_ready(tiny.slots[0], DONE)
            attached.observer.backward_done()
            assert attached.sync.agree(0) == 0
            assert len(begun) == 2  # no GPU can keep this rank now
            attached.sync.finish()
        finally:
            go_on.set()

    support.together(2, settings, work, timeout_s=20)


def test_a_rank_that_comes_later_is_waited_for():
    agree_after_a_mean(0.3, ClusterSettings())


def test_a_rank_that_never_comes_ends_the_job():
    """Its mean keeps the GPUs of all others waiting, which no GPU will ever tell."""
    settings = ClusterSettings(comm_timeout_s=2.0, stall_warning_s=0.5)
    with pytest.raises(ClusterError, match=r"rank 1 .*the GPUs' means of iteration 0"):
        agree_after_a_mean(15.0, settings)
