"""Slots that each GPU updates itself from all workers' factors."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.array import host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm import support
from tests.comm.test_mirror import Far


class Clearing(EmulatedDevice):
    """Keeps the sizes of what it cleared, but of new memory."""

    def __init__(self, schedule):
        self.cleared = []
        super().__init__(schedule=schedule)

    def zeros(self, count, dtype):
        before = len(self.cleared)
        array = super().zeros(count, dtype)
        del self.cleared[before:]
        return array

    def clear(self, array):
        self.cleared.append(array.size)
        super().clear(array)


def run(settings, work, chances=(0.5, 0.5)):
    def on_rank(rank, cluster):
        device = Clearing(Schedule(*chances, seed=rank))
        tiny = Far(device=device)
        attached = cluster.attach(tiny.model(cluster.courier))
        work(rank, tiny, attached, cluster)
        attached.sync.finish()
        return tiny

    return support.together(2, settings, on_rank)


def test_values_of_weights_and_biases_never_leave_the_device():
    counts = {}

    def work(rank, tiny, attached, cluster):
        copies = tiny.device.copies
        assert all(each._data is None for each in attached._model.carrier.mirrors)
        support.drive(tiny, attached, rank, 1)
        before = copies.to_host_bytes, copies.to_device_bytes
        support.drive(tiny, attached, rank, 2)
        after = copies.to_host_bytes, copies.to_device_bytes
        counts[rank] = np.subtract(after, before).tolist()

    run(ClusterSettings(svb="on"), work)
    # Three rows of 8 bytes for each input and output of three layers, from here; and
    # those of both workers to here.
    own = 2 * 3 * 8 * sum((40 + 30, 30 + 50, 50 + 7))
    assert counts == {0: [own, 2 * own], 1: [own, 2 * own]}


@pytest.mark.parametrize("chances", [(0, 1), (0.3, 0.9)])
def test_the_first_factors_outlast_the_clearing_of_their_memory(chances):
    def work(rank, tiny, attached, cluster):
        support.drive(tiny, attached, rank, 2)
        assert not tiny.device.cleared, "gradients that are overwritten"

    expected = support.alone(support.Tiny(), 2, 2)
    for tiny in run(ClusterSettings(svb="on"), work, chances):
        np.testing.assert_allclose(tiny.state(), expected, rtol=1e-9, atol=1e-12)


def test_replicas_that_drifted_are_mended_with_their_history():
    lines = []

    def work(rank, tiny, attached, cluster):
        support.drive(tiny, attached, rank, 2)
        if rank:
            for array in (
                tiny.blobs[2].data,
                attached._model.rebuilder._updater.history[2],
            ):
                memory = host_view(array).reshape(-1)
                tiny.device.do(lambda memory=memory: memory.fill(5.0))
        attached.sync._replicas._tell = lines.append
        attached.sync._replicas._every_iters = 1
        attached.sync._replicas.check()
        attached.sync._replicas._every_iters = 0
        support.drive(tiny, attached, rank, 2)

    first, second = run(ClusterSettings(svb="on", check_replicas_iters=0), work)
    assert len(lines) == 2
    assert "differ on ranks [1]" in lines[0]
    expected = support.alone(support.Tiny(), 2, 4)
    for tiny in (first, second):
        np.testing.assert_allclose(tiny.state(), expected, rtol=1e-9, atol=1e-12)
