"""A net's loss scale on a GPU whose streams run apart: every report is its own's."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.loss_scale import FIRST_FACTOR
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.device_scale import DeviceScale
from tests.comm.couriers import on_couriers

SCHEDULES = [(0.5, 0.5), (1, 0), (0, 1), (0, 0), (0.9, 0.3), (0.3, 0.9)]


@pytest.mark.parametrize("chances", SCHEDULES)
def test_reports_under_way_are_not_mixed(chances):
    """As many as a stale worker may have; the factor follows between them."""
    bad = [False, True, False, True, True, False, False, True]
    device = EmulatedDevice(schedule=Schedule(*chances, seed=3))
    settings = GpuSettings(emulated=True, precision="fp16")
    ops = GpuOps(device, ReferenceOps(), settings)
    blobs = [Blob((3, 5), memory=ops.memory) for _ in range(2)]
    factors = [ops.memory.zeros(6, np.float16).reshape(2, 3) for _ in range(2)]
    large = np.array([[1, 2, 3], [4, np.inf, 6]], np.float16)
    ops.memory.upload(large, factors[1])

    def play(courier):
        loss_scale, heard = ops.loss_scale(), []
        transfers = ops.transfers()
        scale = DeviceScale(courier, blobs, loss_scale, transfers)
        for step, overflows in enumerate(bad):
            by_factor = overflows and step % 2 == 0
            gradient = np.full((3, 5), np.nan if overflows != by_factor else 7)
            blobs[1].mutable_cpu_diff[...] = gradient
            scale.watch_gradient(0)
            scale.watch_factor(factors[int(by_factor)])
            scale.watch_gradient(1)
            scale.report(lambda *found: heard.append(found))
            scale.follow(loss_scale_of(step), overflowed=overflows)
        courier.wait_for(lambda: len(heard) == len(bad), Waiting("a test"))
        return heard, loss_scale.state()

    def loss_scale_of(step):
        return FIRST_FACTOR / 2 ** sum(bad[:step])

    ((heard, state),) = on_couriers(1, play)
    expected = [(loss_scale_of(step), each) for step, each in enumerate(bad)]
    assert heard == expected
    assert state == {"factor": FIRST_FACTOR / 16, "good": 0, "skipped": 4}
