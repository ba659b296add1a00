"""What the GPU makes of batches, and that it waits for no more than it must."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.parcel import Parcel, PixelRule, labels_in, places_in
from poseidon_caffe.backend.reference import ReferenceOps
from tests.devices import gpu_ops

SHAPE, TARGET = (3, 5, 7), (3, 4, 3)
KINDS = [{}, {"channels_last": True}, {"channels_last": True, "backwards": True}]
MEAN = np.random.default_rng(1).random(SHAPE).astype(np.float32) * 200
RULES = [
    PixelRule(),
    PixelRule(MEAN, (), 0.017),
    PixelRule(None, (104.3, 117.1, 123.7), 0.3),
    PixelRule(None, (33.3,)),
]


def emulated(compute, others, seed=0):
    device = EmulatedDevice(schedule=Schedule(compute, others, seed))
    return GpuOps(device, ReferenceOps(), GpuSettings(emulated=True))


def packed(stage, parcel, seed):
    """A batch in pinned memory."""
    rng = np.random.default_rng(seed)
    memory = stage.pinned(parcel.nbytes)
    n, (_, height, width), (_, h, w) = parcel.size, parcel.shape, parcel.target
    labels_in(memory, n)[...] = rng.integers(0, 1000, n)
    places = places_in(memory, n)
    places[:, 0] = rng.integers(0, height - h + 1, n)
    places[:, 1] = rng.integers(0, width - w + 1, n)
    places[:, 2] = rng.integers(0, 2, n)
    parcel.images(memory)[...] = rng.integers(0, 256, (n, *parcel.shape))
    return memory


def expected(rule, parcel, memory):
    images = parcel.images(memory).astype(np.float32)
    values = np.array(rule.mean_values or (0,), np.float32).reshape(-1, 1, 1)
    mean = values if rule.mean is None else rule.mean
    mean = np.broadcast_to(mean, parcel.shape)
    out = []
    _, h, w = parcel.target
    for image, (row, column, mirrored) in zip(
        images, places_in(memory, parcel.size), strict=True
    ):
        kept = (slice(None), slice(row, row + h), slice(column, column + w))
        value = (image[kept] - mean[kept]) * np.float32(rule.scale)
        out.append(value[:, :, ::-1] if mirrored else value)
    return np.stack(out)


def blobs(ops, parcel, channels_last, dtype=np.float32):
    kind = {"dtype": dtype, "memory": ops.memory}
    data = Blob((parcel.size, *parcel.target), channels_last=channels_last, **kind)
    return data, Blob((parcel.size,), **kind)


@pytest.mark.parametrize("rule", range(len(RULES)))
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("pixel", [np.uint8, np.float32])
def test_pixels_become_what_numpy_makes_of_them(kind, pixel, rule):
    ops = gpu_ops()
    parcel = Parcel(4, SHAPE, TARGET, np.dtype(pixel), **kind)
    stage = ops.stage(RULES[rule], 1)
    memory = packed(stage, parcel, 3)
    for channels_last in (False, True):
        data, label = blobs(ops, parcel, channels_last)
        stage.prepare(parcel.nbytes)
        stage.unload(stage.send(memory, parcel), data.data, label.data)
        want = expected(RULES[rule], parcel, memory)
        np.testing.assert_array_equal(data.cpu_data, want)
        np.testing.assert_array_equal(label.cpu_data, labels_in(memory, 4))
    stage.close()


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_types_and_channels(channels, dtype):
    ops = gpu_ops()
    shape = (channels, 20, 19)
    parcel = Parcel(3, shape, shape, np.dtype(np.uint8))
    rule = PixelRule(None, (3.0,), 0.5)
    stage = ops.stage(rule, 1)
    memory = packed(stage, parcel, 4)
    stage.prepare(parcel.nbytes)
    for channels_last in (False, True):
        data, label = blobs(ops, parcel, channels_last, dtype)
        stage.unload(stage.send(memory, parcel), data.data, label.data)
        want = expected(rule, parcel, memory).astype(dtype)
        np.testing.assert_array_equal(data.cpu_data, want)
        want = labels_in(memory, 3).astype(dtype)
        np.testing.assert_array_equal(label.cpu_data, want)


def test_what_is_transformed_already_is_copied():
    ops = gpu_ops()
    stage = ops.stage(PixelRule(None, (9.0,), 7.0), 1)
    for last in (False, True):
        kind = {"transformed": True, "channels_last": last}
        parcel = Parcel(3, SHAPE, SHAPE, np.dtype(np.float32), **kind)
        memory = packed(stage, parcel, 5)
        stage.prepare(parcel.nbytes)
        for channels_last in (False, True):
            data, label = blobs(ops, parcel, channels_last)
            stage.unload(stage.send(memory, parcel), data.data, label.data)
            np.testing.assert_array_equal(data.cpu_data, parcel.images(memory))
            np.testing.assert_array_equal(label.cpu_data, labels_in(memory, 3))


def test_no_more_batches_than_have_room():
    ops = gpu_ops()
    parcel = Parcel(2, SHAPE, TARGET, np.dtype(np.uint8))
    stage = ops.stage(PixelRule(), 1)
    memory = packed(stage, parcel, 1)
    assert stage.send(memory, parcel) is None  # nothing is prepared
    stage.prepare(parcel.nbytes)
    first, second = stage.send(memory, parcel), stage.send(memory, parcel)
    assert second.slot is not first.slot
    assert stage.send(memory, parcel) is None
    stage.cancel(first)
    assert stage.send(memory, parcel) is not None
    larger = Parcel(2, (3, 9, 9), TARGET, np.dtype(np.uint8))
    stage.cancel(second)
    other = packed(stage, larger, 1)
    assert stage.send(other, larger) is None
    stage.prepare(larger.nbytes)
    sent = stage.send(other, larger)
    data, label = blobs(ops, larger, channels_last=False)
    stage.unload(sent, data.data, None)
    want = expected(PixelRule(), larger, other)
    np.testing.assert_array_equal(data.cpu_data, want)
    assert not label.cpu_data.any()
    stage.close()
    assert stage.send(memory, parcel) is None


SCHEDULES = [(1, 0), (0, 1), (0, 0), (0.5, 0.5), (0.9, 0.3), (0.3, 0.9)]


@pytest.mark.parametrize("chances", SCHEDULES, ids=str)
def test_streams_wait_for_each_other(chances):
    ops = emulated(*chances, seed=11)
    parcel = Parcel(2, SHAPE, TARGET, np.dtype(np.uint8))
    stage = ops.stage(RULES[1], 1)
    stage.prepare(parcel.nbytes)
    memories = [packed(stage, parcel, seed) for seed in range(3)]
    kept, wanted, waiting = [], [], []
    leaving = [None] * 3
    for step in range(9):
        # Two are on the way while one is used; memory is written again in turn.
        while len(waiting) < 2:
            place = (step + len(waiting)) % 3
            if leaving[place] is not None:
                leaving[place].wait()
            images = parcel.images(memories[place])
            images[...] = (images.astype(int) * 7 + step) % 256
            sent = stage.send(memories[place], parcel)
            if sent is None:
                break
            leaving[place] = sent
            waiting.append((sent, expected(RULES[1], parcel, memories[place])))
        sent, want = waiting.pop(0)
        data, label = blobs(ops, parcel, channels_last=True)
        stage.unload(sent, data.data, label.data)
        kept.append(data)
        wanted.append(want)
    copies = ops.device.copies
    assert copies.to_host == 0
    for data, want in zip(kept, wanted, strict=True):
        np.testing.assert_array_equal(data.cpu_data, want)
    stage.close()


def test_memory_of_a_forgotten_stage_is_kept_until_its_copies_are_done():
    ops = emulated(1, 0)
    parcel = Parcel(2, SHAPE, TARGET, np.dtype(np.uint8))
    stage = ops.stage(PixelRule(), 1)
    memory = packed(stage, parcel, 1)
    stage.prepare(parcel.nbytes)
    loaded = stage.send(memory, parcel).loaded
    assert not loaded.happened
    del stage
    gc.collect()
    assert loaded.happened
