"""The device's memory as blobs see it."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.memory import DeviceMemory
from poseidon_caffe.backend.memory import NoRoomError
from tests.devices import gpu_ops


def test_arrays_are_zero_aligned_and_counted():
    memory = gpu_ops().memory
    assert not memory.is_host
    for count in (1, 3, 1000):
        array = memory.zeros(count, np.float64)
        assert pointer(array) % 256 == 0
        out = np.ones(count)
        memory.download(array, out)
        assert not out.any()
    assert memory.limit_bytes() == gpu_ops().device.memory_bytes()[1]


def test_nothing_is_moved_for_empty_arrays():
    memory, copies = gpu_ops().memory, gpu_ops().device.copies
    before = copies.to_device, copies.to_host
    empty = memory.zeros(0, np.float32)
    memory.upload(np.zeros(0, np.float32), empty)
    memory.download(empty, np.zeros(0, np.float32))
    memory.clear(empty)
    assert (copies.to_device, copies.to_host) == before


def test_uploads_of_any_array_and_bytes_are_counted():
    memory, copies = gpu_ops().memory, gpu_ops().device.copies
    array = memory.zeros(6, np.float32)
    before = copies.to_device_bytes, copies.to_host_bytes
    memory.upload(np.arange(12, dtype=np.float32)[::2], array)
    out = np.empty(6, np.float32)
    memory.download(array, out)
    assert out.tolist() == [0, 2, 4, 6, 8, 10]
    after = copies.to_device_bytes, copies.to_host_bytes
    assert np.subtract(after, before).tolist() == [24, 24]


def test_flush_uploads_what_the_host_has_written_once():
    memory = DeviceMemory(EmulatedDevice())
    blobs = [Blob((3,), memory=memory) for _ in range(3)]
    for i, blob in enumerate(blobs[:2]):
        blob.mutable_cpu_data[...] = i + 1
    copies = memory._device.copies
    before = copies.to_device
    memory.flush()
    memory.flush()
    assert copies.to_device - before == 2
    for i, blob in enumerate(blobs[:2]):
        out = np.empty(3, np.float32)
        memory.download(blob.data_storage.raw, out)
        assert (out == i + 1).all()


def test_what_does_not_fit():
    memory = DeviceMemory(EmulatedDevice(limit_bytes=1000))
    kept = memory.zeros(100, np.float32)
    with pytest.raises(NoRoomError) as caught:
        memory.zeros(200, np.float32)
    error = caught.value
    assert (error.wanted_bytes, error.free_bytes) == (800, 600)
    assert error.total_bytes == memory.limit_bytes() == 1000
    del kept
    assert memory.zeros(200, np.float32).size == 200
