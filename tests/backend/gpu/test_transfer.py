"""Copies beside the computing, on streams that run apart as far as events permit."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.array import host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps

SCHEDULES = [(0, 0), (0, 1), (1, 0), (0.5, 0.5)]
COUNT = 12


@pytest.fixture(params=SCHEDULES)
def ops(request):
    device = EmulatedDevice(schedule=Schedule(*request.param))
    return GpuOps(device, ReferenceOps(), GpuSettings(emulated=True))


@pytest.fixture
def array(ops):
    return ops.memory.zeros(COUNT, np.float32)


def fill(ops, array, value):
    """A kernel."""
    ops.device.do(lambda: host_view(array).fill(value))


def test_what_is_fetched_is_what_was_computed(ops, array):
    ways = ops.transfers()
    target = ways.pinned(COUNT, np.float32)
    for value in range(1, 5):
        fill(ops, array, value)
        moment = ways.fetch(array, target)
        ways.hold(moment)
        fill(ops, array, -1)
        moment.wait()
        assert moment.done()
        assert (target == value).all()


def test_asking_is_enough(ops, array):
    ways = ops.transfers()
    target = ways.pinned(COUNT, np.float32)
    fill(ops, array, 3)
    moment = ways.fetch(array, target)
    while not moment.done():
        pass
    assert (target == 3).all()


def test_what_is_snapped_may_be_overwritten_at_once(ops, array):
    ways = ops.transfers()
    targets = [ways.pinned(COUNT, np.float32) for _ in range(2)]
    for value in range(1, 4):
        moments = []
        for k, target in enumerate(targets):
            fill(ops, array, 10 * value + k)
            moments.append(ways.snap(array.reshape(3, 4).T, target))
        fill(ops, array, -1)
        for k, (target, moment) in enumerate(zip(targets, moments, strict=True)):
            moment.wait()
            assert (target == 10 * value + k).all()


def test_a_snap_has_the_order_of_the_shape(ops, array):
    ways = ops.transfers()
    values = np.arange(COUNT, dtype=np.float32)
    ops.memory.upload(values, array)
    target = ways.pinned(COUNT, np.float32)
    ways.snap(array.reshape(3, 4).T, target).wait()
    np.testing.assert_array_equal(target, values.reshape(3, 4).T.reshape(-1))


def test_kernels_find_what_was_stored(ops, array):
    ways = ops.transfers()
    source, seen = ways.pinned(COUNT, np.float32), ops.memory.zeros(COUNT, np.float32)
    result, after = np.empty(COUNT, np.float32), None
    for value in range(1, 4):
        source[...] = value
        stored = ways.store(source, array, after)
        ops.copy(array, seen)
        after = ways.fetch(seen, ways.pinned(COUNT, np.float32))
        stored.wait()
        ops.memory.download(seen, result)
        assert (result == value).all()


def test_earlier_kernels_find_what_was_there(ops, array):
    ways = ops.transfers()
    source, seen = ways.pinned(COUNT, np.float32), ops.memory.zeros(COUNT, np.float32)
    source[...] = 9
    fill(ops, array, 5)
    ops.copy(array, seen)
    ways.store(source, array, None)
    result = np.empty(COUNT, np.float32)
    ops.memory.download(seen, result)
    assert (result == 5).all()
    ops.memory.download(array, result)
    assert (result == 9).all()


def test_pinned_memory_is_of_any_type_and_size(ops):
    ways = ops.transfers()
    assert ways.pinned(3, np.float64).dtype == np.float64
    assert not ways.pinned(0, np.float32).size


def test_nothing_is_copied_while_it_is_empty(ops):
    ways, nothing = ops.transfers(), ops.memory.zeros(0, np.float32)
    target = ways.pinned(0, np.float32)
    ways.fetch(nothing, target).wait()
    ways.store(target, nothing, None).wait()
    assert ops.device.copies.to_host == ops.device.copies.to_device == 0


def test_what_is_kept_is_what_was_computed_in_c_order(ops, array):
    ways, target = ops.transfers(), ops.transfers().room(COUNT, np.float32)
    fill(ops, array, 3)
    moment = ways.keep(array.reshape(3, 4).T, target)
    fill(ops, array, 4)
    moment.wait()
    assert (host_view(target) == 3).all()
    assert ops.device.copies.to_host == ops.device.copies.to_device == 0


def test_others_may_use_new_room_at_once(ops):
    ways = ops.transfers()
    room = ways.room(COUNT, np.float32)
    host_view(room).fill(7)
    ops.device.synchronise()
    assert (host_view(room) == 7).all()
    fill(ops, room, 8)
    ways.now().wait()
    assert (host_view(room) == 8).all()
