from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data.host_tops import HostTops

SHAPES = [(3,), (3, 2, 4, 5), (3, 2, 2, 3, 2), (3, 7)]


def emulated(compute=1.0, others=1.0):
    device = EmulatedDevice(schedule=Schedule(compute, others, 3))
    return GpuOps(device, ReferenceOps(), GpuSettings(emulated=True))


def blobs(ops, dtype=np.float32, **kind):
    return [Blob(shape, memory=ops.memory, dtype=dtype, **kind) for shape in SHAPES]


def fill(arrays, step):
    for number, array in enumerate(arrays):
        values = np.arange(array.size).reshape(array.shape)
        array[...] = values * 0.1 + 10 * step + number


def expected(step, dtype):
    arrays = [np.empty(shape, dtype) for shape in SHAPES]
    fill(arrays, step)
    return arrays


def test_on_the_host_the_blobs_themselves_are_filled():
    top = blobs(ReferenceOps())
    tops = HostTops(ReferenceOps())
    arrays = tops.arrays(top)
    versions = [blob.version for blob in top]
    fill(arrays, 1)
    tops.send(top)
    for array, blob, version in zip(arrays, top, versions, strict=True):
        assert np.shares_memory(array, blob.data)
        assert blob.version > version
    tops.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("chances", [(1, 0), (0, 1), (0.5, 0.5)], ids=str)
def test_on_a_device_nothing_overtakes(chances, channels_last, dtype):
    ops = emulated(*chances)
    top = blobs(ops, dtype, channels_last=channels_last)
    tops = HostTops(ops)
    kept = []
    for step in range(6):
        fill(tops.arrays(top), step)
        tops.send(top)
        kept.append(blobs(ops, dtype))
        for blob, copy in zip(top, kept[-1], strict=True):
            ops.copy(blob.data, copy.data)
    assert ops.device.copies.to_device == 6 * len(SHAPES)
    assert ops.device.copies.to_host == 0
    tops.close()
    for step, copies in enumerate(kept):
        for blob, want in zip(copies, expected(step, dtype), strict=True):
            np.testing.assert_array_equal(blob.cpu_data, want)


def test_batches_may_grow():
    ops = emulated()
    tops = HostTops(ops)
    for size in (2, 5, 3, 9):
        top = [Blob((size, 2), memory=ops.memory)]
        tops.arrays(top)[0][...] = size
        tops.send(top)
        assert (top[0].cpu_data == size).all()
