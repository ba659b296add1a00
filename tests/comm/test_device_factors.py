"""Factors that stay in the GPUs' memory, as MPI can send it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.comm.device_factors import (
    DeviceFactorCarrier,
    DeviceFactorRebuilder,
)
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm import support
from tests.comm.test_mirror import SCHEDULES, Far


@dataclass
class Aware(Far):
    """A `Far` whose messages lie where its factors do."""

    carries = DeviceFactorCarrier
    rebuilds = DeviceFactorRebuilder


class AwareTransport(support.UnkindTransport):
    """Reads and writes the device's memory itself, whenever it likes."""

    def send(self, peer, tag, array):
        return super().send(peer, tag, near(array))

    def receive(self, peer, tag, array):
        return super().receive(peer, tag, near(array))


def near(array):
    return host_view(array) if isinstance(array, DeviceArray) else array


@pytest.fixture(autouse=True)
def _transport(monkeypatch):
    monkeypatch.setattr(support, "UnkindTransport", AwareTransport)


def trained(size, schedule, *, iterations=6, passes=1, clip=-1.0, delay_s=(0.0, 0.0)):
    """All ranks' values, and the bytes that each copied from and to its device."""

    def work(rank, cluster):
        device = EmulatedDevice(schedule=Schedule(*schedule, seed=rank))
        tiny = Aware(device=device)
        model = tiny.model(cluster.courier, iter_size=passes, clip_gradients=clip)
        attached = cluster.attach(model)
        support.drive(tiny, attached, rank, 1, passes)
        copies = device.copies
        before = copies.to_host_bytes + copies.to_device_bytes
        support.drive(tiny, attached, rank, iterations - 1, passes)
        moved = copies.to_host_bytes + copies.to_device_bytes - before
        attached.sync.finish()
        return tiny.state(), moved

    settings = ClusterSettings(svb="on", row_bytes=2048)
    return support.together(size, settings, work, delay_s=delay_s)


@pytest.mark.parametrize("schedule", [*SCHEDULES, (0, 1), (0.3, 0.9)])
@pytest.mark.parametrize("delay_s", [(0.0, 0.0), (0.0, 0.003)])
def test_every_order_gives_the_same_and_nothing_is_copied(schedule, delay_s):
    expected = support.alone(support.Tiny(), 3, 6)
    for state, moved in trained(3, schedule, delay_s=delay_s):
        np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)
        assert not moved


def test_several_passes_and_clipping():
    expected = support.alone(support.Tiny(), 2, 6, 2, 1.0)
    for state, _ in trained(2, SCHEDULES[0], passes=2, clip=1.0):
        np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)
