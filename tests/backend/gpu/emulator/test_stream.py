from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.errors import BackendError


def value(device, array):
    """What is there now, without waiting for anything."""
    return float(array._memory[0])


def filled(number):
    return np.full(4, number, np.float32)


def cleared(device):
    """Two arrays whose clearing is over."""
    arrays = [device.zeros(4, np.float32) for _ in range(2)]
    device.synchronise()
    return arrays


def test_without_a_schedule_work_is_done_at_once():
    device = EmulatedDevice()
    target = device.zeros(4, np.float32)
    device.stream().upload(filled(3), target)
    assert value(device, target) == 3


def test_a_late_copy_waits_for_whom_waits_for_it():
    device = EmulatedDevice(schedule=Schedule(compute=1, others=0))
    target, other = cleared(device)
    copies = device.stream()
    source = filled(3)
    copies.upload(source, target)
    event = copies.record()
    device.compute.copy(target, other)
    assert value(device, other) == 0  # nobody waited
    source[:] = 4  # too early: the copy has not been made
    device.compute.wait_for(event)
    device.compute.copy(target, other)
    got = np.empty(4, np.float32)
    device.download(other, got)
    assert got.tolist() == [4] * 4
    assert event.happened


def test_an_event_that_the_host_waits_for():
    device = EmulatedDevice(schedule=Schedule(compute=0, others=0))
    first, second = cleared(device)
    before = device.compute.done
    copies = device.stream()
    device.compute.copy(second, first)
    device.compute.wait_for(copies.record())
    copies.wait_for(device.compute.record())
    copies.upload(filled(1), first)
    done = copies.record()
    copies.upload(filled(2), first)
    done.wait()
    assert value(device, first) == 1
    assert device.compute.done == before + 2


def test_late_kernels_let_copies_overtake():
    device = EmulatedDevice(schedule=Schedule(compute=0, others=1))
    source, target = cleared(device)
    copies = device.stream()
    copies.upload(filled(1), source)
    device.compute.copy(source, target)
    copies.upload(filled(2), source)
    device.synchronise()
    assert value(device, target) == 2
    copies.wait_for(device.compute.record())
    device.compute.copy(source, target)
    used = device.compute.record()
    copies.wait_for(used)
    copies.upload(filled(3), source)
    assert value(device, source) == 2
    device.synchronise()
    assert value(device, target) == 2


def test_only_the_compute_stream_is_captured():
    device = EmulatedDevice(schedule=Schedule())
    source, target = cleared(device)
    copies = device.stream()

    def work():
        device.compute.copy(source, target)
        copies.upload(filled(5), source)
        with pytest.raises(BackendError, match="while a graph is captured"):
            device.upload(filled(5), source)

    graph = device.capture(work)
    copies.record().wait()
    assert value(device, source) == 5
    assert value(device, target) == 0
    graph.launch()
    device.synchronise()
    assert value(device, target) == 5


def test_kernels_may_touch_no_more_than_was_asked_for(monkeypatch):
    monkeypatch.setenv("POSEIDON_EMULATOR_SANITIZE", "1")
    device = EmulatedDevice()
    array = device.zeros(8, np.float32)
    arguments = (array, array, 0.5, 8)
    device.launch("activation", "relu", "float", (1, 1, 1), (32, 1, 1), arguments)
    beyond = (array, array, 0.5, 9)
    with pytest.raises(BackendError):
        device.launch("activation", "relu", "float", (1, 1, 1), (32, 1, 1), beyond)


def test_bytes_are_copied_as_they_lie():
    """CUDA would mix the numbers of arrays that are not in C order."""
    device = EmulatedDevice()
    there, stream = device.zeros(6, np.float32), device.stream()
    turned, plain = there.reshape(2, 3).T, np.zeros((3, 2), np.float32)
    for copy in (
        lambda: device.download(turned, plain),
        lambda: stream.download(turned, plain),
        lambda: stream.download(there.reshape(3, 2), plain.reshape(2, 3).T),
        lambda: stream.upload(plain, turned),
        lambda: device.upload(plain, turned),
        lambda: stream.copy(turned, there.reshape(3, 2)),
        lambda: stream.copy(there[:3], there),
        lambda: stream.upload(np.zeros(1, np.float32), there),
    ):
        with pytest.raises(BackendError, match="a stream copies"):
            copy()
    # Of any NumPy array a copy is made first.
    device.upload(np.arange(6, dtype=np.float32).reshape(3, 2).T, there.reshape(2, 3))
    device.download(there.reshape(3, 2), plain)
    assert plain.tolist() == [[0, 2], [4, 1], [3, 5]]
