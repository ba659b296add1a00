"""Buffers on a device: whoever wrote last is what everybody reads."""

from __future__ import annotations

import random

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.base import flat
from poseidon_caffe.backend.memory import (
    HOST,
    Buffer,
    DeviceBuffer,
    HostMemory,
    NoRoomError,
    empty_array,
    make_buffer,
    memory_limit,
)
from tests.devices import gpu_ops

F32 = np.dtype(np.float32)


def memory():
    return gpu_ops().memory


def device_write(array, values):
    """What a kernel does."""
    memory().upload(np.ascontiguousarray(values, array.dtype).reshape(-1), flat(array))


def device_read(array):
    out = np.empty(array.size, array.dtype)
    memory().download(flat(array), out)
    return out


def copies():
    counted = gpu_ops().device.copies
    return counted.to_device, counted.to_host


def made(count=6, dtype=F32):
    buffer = DeviceBuffer(dtype, memory())
    buffer.reserve(count)
    return buffer


def kernel_writes(buffer, values):
    buffer.to_device()
    device_write(buffer.raw[: len(values)], values)


def kernel_reads(buffer):
    buffer.to_device()
    return device_read(buffer.raw).tolist()


# -- this machine's memory ----------------------------------------------------------
def test_host_memory():
    host = HostMemory()
    array = host.zeros(1000, np.float64)
    assert array.ctypes.data % 64 == 0
    assert array.shape == (1000,)
    assert not array.any()
    source = np.arange(1000.0)
    host.upload(source, array)
    assert (array == source).all()
    host.clear(array)
    assert not array.any()
    assert host.limit_bytes() == memory_limit() > 1 << 20
    with pytest.raises(MemoryError, match="GiB"):
        host.zeros(1 << 55, np.float32)


def test_no_room_says_how_much():
    error = NoRoomError(100, 20, 60)
    assert (error.wanted_bytes, error.free_bytes, error.total_bytes) == (100, 20, 60)
    assert "100 bytes wanted, 20 of 60 free" in str(error)
    assert isinstance(error, MemoryError)


def test_each_memory_has_its_kind_of_buffer():
    assert type(make_buffer(F32, HOST)) is Buffer
    assert type(make_buffer(F32, memory())) is DeviceBuffer


def test_a_host_buffer_is_its_own_copy():
    buffer = make_buffer(F32, HOST)
    buffer.to_host(4, write=True)[...] = 3
    buffer.to_device()
    assert buffer.raw.tolist() == [3] * 4
    generation = buffer.generation
    buffer.reserve(2)
    assert buffer.generation == generation
    buffer.reserve(5)
    assert buffer.generation == generation + 1


# -- a device's ---------------------------------------------------------------------
def test_fresh_memory_is_zero_on_both_sides():
    assert kernel_reads(made()) == [0] * 6
    assert made().to_host(6, write=False).tolist() == [0] * 6


def test_host_writes_are_uploaded_once_when_a_kernel_wants_them():
    buffer = made()
    before = copies()
    host = buffer.to_host(6, write=True)
    host[...] = 5
    host[2] = 7
    assert copies() == (before[0], before[1] + 1)
    buffer.to_device()
    buffer.to_device()
    assert copies() == (before[0] + 1, before[1] + 1)
    assert kernel_reads(buffer) == [5, 5, 7, 5, 5, 5]


def test_host_reads_download_once_until_a_kernel_may_have_written():
    buffer = made()
    kernel_writes(buffer, [1, 2, 3, 4, 5, 6])
    before = copies()
    for _ in range(3):
        assert buffer.to_host(6, write=False).tolist() == [1, 2, 3, 4, 5, 6]
    assert copies() == (before[0], before[1] + 1)
    buffer.to_device()
    buffer.to_host(6, write=False)
    assert copies() == (before[0], before[1] + 2)


def test_writing_a_part_keeps_the_rest():
    buffer = made()
    kernel_writes(buffer, [1, 2, 3, 4, 5, 6])
    buffer.to_host(2, write=True)[...] = 9
    assert buffer.to_host(6, write=False).tolist() == [9, 9, 3, 4, 5, 6]
    assert kernel_reads(buffer) == [9, 9, 3, 4, 5, 6]
    buffer.to_host(2, write=True)[...] = 8
    buffer.to_host(4, write=True)[3] = 7
    buffer.to_host(1, write=True)[...] = 6
    assert kernel_reads(buffer) == [6, 8, 3, 7, 5, 6]


def test_views_of_the_host_copy_show_new_numbers_once_asked_for():
    buffer = made()
    view = buffer.to_host(6, write=False)
    kernel_writes(buffer, [3] * 6)
    assert view.tolist() == [0] * 6
    assert np.shares_memory(view, buffer.to_host(6, write=False))
    assert view.tolist() == [3] * 6


def test_growing_forgets_and_is_zero_again():
    buffer = made()
    buffer.to_host(6, write=True)[...] = 4
    generation = buffer.generation
    assert buffer.to_host(9, write=False).tolist() == [0] * 9
    assert buffer.generation == generation + 1
    assert kernel_reads(buffer) == [0] * 9


def test_moving_takes_what_is_there():
    buffer, arena = made(), memory().zeros(32, np.float32)
    device_write(arena, np.arange(32))
    buffer.to_host(6, write=True)[...] = 4
    before = copies(), gpu_ops().memory.allocations
    buffer.move(arena[16:22])
    assert copies() == before[0]
    assert gpu_ops().memory.allocations > before[1]
    assert buffer.to_host(6, write=False).tolist() == [16, 17, 18, 19, 20, 21]
    buffer.to_host(6, write=True)[...] = 1
    assert kernel_reads(buffer) == [1] * 6
    np.testing.assert_array_equal(
        device_read(arena), [*range(16), *[1] * 6, *range(22, 32)]
    )


def test_a_replay_makes_every_copy_on_the_host_old():
    buffer, written = made(), made()
    kernel_writes(buffer, [1] * 6)
    buffer.to_device()
    array = buffer.raw
    replay = gpu_ops().capture(lambda: memory().clear(array))
    assert buffer.to_host(6, write=False).tolist() == [1] * 6
    written.to_host(6, write=True)[...] = 2
    replay.run()
    assert device_read(written.raw).tolist() == [2] * 6
    assert buffer.to_host(6, write=False).tolist() == [0] * 6
    # What the host writes before a replay is there before it.
    buffer.to_host(6, write=True)[...] = 3
    replay.run()
    assert buffer.to_host(6, write=False).tolist() == [0] * 6
    assert written.to_host(6, write=False).tolist() == [2] * 6


def test_buffers_that_died_are_not_flushed():
    buffer = made()
    buffer.to_host(6, write=True)
    assert buffer in memory().written
    del buffer
    memory().flush()
    assert not memory().written


@pytest.mark.parametrize("dtype", [np.float16, np.uint16])
def test_halves_are_float32_on_the_host(dtype):
    buffer = made(4, np.dtype(dtype))
    host = buffer.to_host(4, write=True)
    assert host.dtype == np.float32
    host[...] = [1, -2.5, 3.0001, 65504 if dtype == np.float16 else 2.0**100]
    assert buffer.to_host(4, write=False)[2] == np.float32(3.0001)
    buffer.to_device()
    read = buffer.to_host(4, write=False)
    assert read[:3].tolist() == [1, -2.5, 3]
    assert read[3] == (65504 if dtype == np.float16 else 2.0**100)
    assert empty_array(3, dtype).dtype == dtype


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("last", [False, True])
def test_any_order_of_reads_and_writes(seed, last):
    """Blobs that share, against plain arrays: 80 random deeds of host and device."""
    draw, shape = random.Random(seed), (2, 3, 2, 2)
    kinds = {"channels_last": last, "memory": memory()}
    blobs = [Blob(shape, **kinds) for _ in range(3)]
    truth = [np.zeros(shape, np.float32) for _ in blobs]
    blobs.append(Blob(shape, **kinds))
    blobs[3].share_data(blobs[0])
    truth.append(truth[0])

    def deed(i, name):
        blob, want = blobs[i], truth[i]
        value = draw.randrange(1000)
        if name == "host writes":
            blob.mutable_cpu_data[...] = value
            want[...] = value
        elif name == "host writes a part":
            blob.mutable_cpu_data[1, 2, 0, draw.randrange(2)] = value
            want[...] = blob.cpu_data
        elif name == "device writes":
            device_write(blob.data, np.full(24, value))
            want[...] = value
        elif name == "device reads":
            got = np.empty(24, np.float32)
            memory().download(flat(blob.data), got)
            axes = (0, 2, 3, 1) if last else (0, 1, 2, 3)
            np.testing.assert_array_equal(got, want.transpose(axes).reshape(-1))
        elif name == "host reads":
            np.testing.assert_array_equal(blob.cpu_data, want)
        elif name == "replay":
            array = blob.data
            gpu_ops().capture(lambda: memory().clear(array)).run()
            want[...] = 0
        elif name == "host writes before a replay":
            array = blobs[(i + 1) % 3].data
            replay = gpu_ops().capture(lambda: memory().clear(array))
            blob.mutable_cpu_data[...] = value
            want[...] = value
            replay.run()
            truth[(i + 1) % 3][...] = 0

    deeds = [
        "host writes", "host writes a part", "device writes", "device reads",
        "host reads", "replay", "host writes before a replay",
    ]  # fmt: skip
    for _ in range(80):
        deed(draw.randrange(4), draw.choice(deeds))
    for blob, want in zip(blobs, truth, strict=True):
        np.testing.assert_array_equal(blob.cpu_data, want)
