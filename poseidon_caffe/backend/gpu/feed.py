"""Batches copied to the GPU on a stream of their own, and transformed there."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.backend.gpu.device import Event
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.parcel import Parcel, PixelRule, labels_in, places_in
from poseidon_caffe.backend.protocols.feed import Delivery
from poseidon_caffe.types import Array

__all__ = ["DeviceStage", "GpuFeed", "Sent"]

_MOST_ROWS = 65_535
_BLOCKS_PER_IMAGE = 256


class _Slot:
    """Room for one batch on the device.

    Attributes:
        memory: uint8.
        free: nobody needs what is in it.
        used: after the kernel that read it last; copies into it wait for that.
        loaded: after the last copy into it.
    """

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.free = True
        self.used: Event | None = None
        self.loaded: Event | None = None


@dataclass(frozen=True)
class Sent:
    """`Delivery` of a `DeviceStage`."""

    slot: _Slot
    parcel: Parcel
    loaded: Event

    def wait(self) -> None:
        """Return once the copy is done."""
        self.loaded.wait()


class DeviceStage:
    """`Stage` of a GPU.

    Batches are sent on a stream of their own; each kernel waits on the device for its
    batch's copy, each copy for the kernel that read what it overwrites.  Threads that
    send never touch the compute stream, which may be recording a graph meanwhile.

    Args:
        ops: the GPU backend.
        rule: what is done to pixels.
        slots: batches that have room.
    """

    def __init__(self, ops: GpuFeed, rule: PixelRule, slots: int) -> None:
        self._ops = ops
        self._scale = rule.scale
        self._stream = ops.device.stream()
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        self._count = slots
        # Memory of a stage that nobody closed is not given to others too early.
        weakref.finalize(self, _give_up, self._slots).atexit = False
        self._mean, self._mean_steps = self._upload_mean(rule)

    def _upload_mean(self, rule: PixelRule) -> tuple[Array | None, tuple[int, ...]]:
        """The mean on the device, and its steps along channels, rows and columns."""
        if rule.mean is not None:
            values = np.ascontiguousarray(rule.mean, np.float32)
            _, height, width = values.shape
            steps = (height * width, width, 1)
        elif rule.mean_values:
            values = np.array(rule.mean_values, np.float32)
            steps = (0 if len(values) == 1 else 1, 0, 0)
        else:
            return None, (0, 0, 0)
        memory = self._ops.memory
        there = memory.zeros(values.size, np.float32)
        memory.upload(values.reshape(-1), there)
        return there, steps

    # -- any thread ------------------------------------------------------------------
    def pinned(self, nbytes: int) -> Array:
        """See `Stage.pinned`."""
        return self._ops.device.pinned(nbytes, np.uint8)

    def send(self, memory: Array, parcel: Parcel) -> Sent | None:
        """See `Stage.send`."""
        count = parcel.nbytes
        with self._lock:
            for slot in self._slots:
                if slot.free and slot.memory.size >= count:
                    break
            else:
                return None
            if slot.used is not None:
                self._stream.wait_for(slot.used)
            self._stream.upload(memory[:count], slot.memory[:count])
            slot.loaded = self._stream.record()
            slot.free = False
            return Sent(slot, parcel, slot.loaded)

    # -- the thread that computes ------------------------------------------------------
    def prepare(self, nbytes: int) -> None:
        """See `Stage.prepare`."""
        compute = self._ops.device.compute
        with self._lock:
            for slot in self._slots:
                if slot.free and slot.memory.size < nbytes:
                    if slot.loaded is not None:  # of a batch that was cancelled
                        compute.wait_for(slot.loaded)
                    slot.memory = self._new(nbytes)
                    slot.used = compute.record()
            while len(self._slots) < self._count:
                slot = _Slot(self._new(nbytes))
                slot.used = compute.record()  # it is cleared until then
                self._slots.append(slot)

    def _new(self, nbytes: int) -> Array:
        return self._ops.memory.zeros(nbytes, np.uint8)

    def unload(self, delivery: Delivery, data: Array, label: Array | None) -> None:
        """See `Stage.unload`."""
        assert isinstance(delivery, Sent)
        compute, slot = self._ops.device.compute, delivery.slot
        compute.wait_for(delivery.loaded)
        if delivery.parcel.transformed:
            self._copy(delivery, data, label)
        else:
            self._transform(delivery, data, label)
        slot.used = compute.record()
        self._let_go(slot)

    def cancel(self, delivery: Delivery) -> None:
        """See `Stage.cancel`."""
        assert isinstance(delivery, Sent)
        self._let_go(delivery.slot)  # copies are made in turn

    def _let_go(self, slot: _Slot) -> None:
        with self._lock:
            slot.free = True

    def close(self) -> None:
        """See `Stage.close`."""
        with self._lock:
            _give_up(self._slots)

    # -- kernels -----------------------------------------------------------------------
    def _copy(self, sent: Sent, data: Array, label: Array | None) -> None:
        memory, parcel = sent.slot.memory, sent.parcel
        self._ops.copy(parcel.images(memory), data)
        if label is not None:
            self._ops.copy(labels_in(memory, parcel.size), label)

    def _transform(self, sent: Sent, data: Array, label: Array | None) -> None:
        memory, parcel = sent.slot.memory, sent.parcel
        labels = labels_in(memory, parcel.size)
        if label is not None and label.dtype != param_dtype(data.dtype):
            self._ops.copy(labels, label)
            label = None
        channels, height, width = parcel.target
        places = height * width
        if not data.size:
            return
        blocks = min(-(-places // THREADS), _BLOCKS_PER_IMAGE)
        kernel = "feed_bytes" if parcel.dtype == np.uint8 else "feed_floats"
        steps = [step // data.itemsize for step in data.strides]
        self._ops.kernels("feed").grid(
            kernel, data.dtype, (blocks, min(parcel.size, _MOST_ROWS), 1),
            (THREADS, 1, 1), parcel.raw_images(memory), places_in(memory, parcel.size),
            self._mean, labels, data, label, parcel.size, channels, height, width,
            *_pixel_steps(parcel), *self._mean_steps, *steps, self._scale,
        )  # fmt: skip


def _give_up(slots: list[_Slot]) -> None:
    """Drop all slots once nothing is copied into them any more."""
    while slots:
        if (loaded := slots[-1].loaded) is not None:
            loaded.wait()
        slots.pop()


def _pixel_steps(parcel: Parcel) -> tuple[int, ...]:
    """Place of the first image's first pixel; steps along N, C, H and W."""
    channels, height, width = parcel.shape
    whole = channels * height * width
    if not parcel.channels_last:
        return 0, whole, height * width, width, 1
    if parcel.backwards:
        return channels - 1, whole, -1, width * channels, channels
    return 0, whole, 1, width * channels, channels


class GpuFeed(GpuFamily):
    """`FeedOps` on a GPU."""

    def stage(self, rule: PixelRule, ahead: int) -> DeviceStage:
        """See `FeedOps.stage`."""
        return DeviceStage(self, rule, 1 + min(max(ahead, 0), 1))
