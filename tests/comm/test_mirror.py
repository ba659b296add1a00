"""Slots on a GPU whose streams run apart: the numbers are those of one process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.emulator.array import host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.mirror import MirrorCarrier
from poseidon_caffe.comm.mirror_rebuilding import MirrorRebuilder
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm import support
from tests.comm.support import MOMENTUM, RATE, ROWS, Tiny

SCHEDULES = [(0.5, 0.5), (1, 0), (0, 1), (0, 0), (0.9, 0.3), (0.3, 0.9)]


def factors_of(tiny, layer, worker, iteration, part, weights):
    """As `Tiny.factors` draws them; without weights they do not depend on them."""
    draw = np.random.default_rng((layer, worker, iteration, part))
    outputs, inputs = tiny.blobs[2 * layer].shape
    top = draw.normal(size=(ROWS, outputs))
    bottom = draw.normal(size=(ROWS, inputs))
    if weights is not None:
        top, bottom = top + weights[:, 0], bottom + weights[0]
    return top, bottom


class FarMomentum:
    """`Momentum` in kernels of the compute stream."""

    history_count = 1

    def __init__(self, ops, blobs):
        self.ops = ops
        zeros = ops.memory.zeros
        self.history = [zeros(blob.count, np.float64) for blob in blobs]

    def history_of(self, slot):
        return (self.history[slot],)

    def apply(self, iteration, pieces, scale):
        for piece in pieces:
            arrays = (piece.data, piece.diff, *piece.history)
            data, diff, history = map(host_view, arrays)

            def kernel(data=data, diff=diff, history=history):
                history *= MOMENTUM
                history += RATE * diff * scale
                data -= history

            self.ops.device.do(kernel)


class Free(Tiny):
    """Gradients that do not depend on the values: staleness changes nothing."""

    def factors(self, layer, worker, iteration, part):
        self.products[layer].held = factors_of(
            self, layer, worker, iteration, part, None
        )


@dataclass
class Far(Tiny):
    """A `Tiny` on a device: everything is a kernel on its compute stream.

    All layers' factors lie in the same memory, as blobs of a net do.
    """

    device: EmulatedDevice | None = None
    is_free: bool = False
    carries = MirrorCarrier
    rebuilds = MirrorRebuilder

    def __post_init__(self):
        super().__post_init__()
        self.ops = GpuOps(self.device, ReferenceOps(), GpuSettings(emulated=True))
        near, self.blobs = self.blobs, []
        for blob in near:
            far = Blob(blob.shape, dtype=blob.dtype, memory=self.ops.memory)
            far.mutable_cpu_data[...] = blob.data
            self.blobs.append(far)
        self.shared = self.ops.memory.zeros(2 * ROWS * max(self.widths), np.float64)

    def factors(self, layer, worker, iteration, part):
        weights = None if self.is_free else host_view(self.blobs[2 * layer].data)
        outputs, inputs = self.blobs[2 * layer].shape
        half = self.shared.size // 2
        held = (
            self.shared[: ROWS * outputs].reshape(ROWS, outputs),
            self.shared[half : half + ROWS * inputs].reshape(ROWS, inputs),
        )
        self.products[layer].held = held

        def kernel():
            made = factors_of(self, layer, worker, iteration, part, weights)
            for array, value in zip(held, made, strict=True):
                host_view(array)[...] = value

        self.device.do(kernel)

    def backward(self, layer):
        product = self.products[layer]
        if product.defer_gradient:
            return
        top, bottom = map(host_view, product.held)
        targets = [b.gradient_target() for b in self.blobs[2 * layer : 2 * layer + 2]]

        def kernel():
            values = (top.T @ bottom, top.sum(axis=0))
            for (array, accumulate), value in zip(targets, values, strict=True):
                target = host_view(array)
                target[...] = target + value if accumulate else value

        self.device.do(kernel)

    def statistics_step(self, worker, iteration):
        data = host_view(self.blobs[-1].data)
        step = np.sin(np.arange(11) + worker + iteration)

        def kernel():
            data[...] = 0.9 * data + step

        self.device.do(kernel)

    def model(self, courier, *, on_device=True, **settings):
        ways = self.ops.transfers()
        carrier = self.carries(courier, self.slots, self.blobs, ways)
        rebuilder = None
        if on_device:
            updater = FarMomentum(self.ops, self.blobs)
            rebuilder = self.rebuilds(courier, carrier, self.ops, ways, updater)
        settings |= {"carrier": carrier, "rebuilder": rebuilder}
        far, self.blobs = self.blobs, carrier.mirrors
        try:
            return super().model(**settings)
        finally:
            self.blobs = far

    def state(self):
        return np.concatenate([blob.cpu_data.reshape(-1) for blob in self.blobs])


def trained(size, settings, schedule, *, passes=1, clip=-1.0, on_device=True, **kind):
    """The final values of all ranks."""

    def work(rank, cluster):
        device = EmulatedDevice(schedule=Schedule(*schedule, seed=rank))
        tiny = Far(device=device, **kind)
        model = tiny.model(
            cluster.courier,
            on_device=on_device,
            iter_size=passes,
            clip_gradients=clip,
        )
        attached = cluster.attach(model)
        if attached.sync is None:
            cluster.serve()
            return None
        support.drive(tiny, attached, rank, 6, passes)
        attached.sync.finish()
        return tiny.state()

    found = support.together(size, settings, work)
    return [state for state in found if state is not None]


def check(states, expected):
    assert states
    for state in states:
        np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("svb", "on_device"), [("off", False), ("on", False), ("on", True)]
)
def test_every_order_of_the_streams_gives_the_same(schedule, svb, on_device):
    settings = ClusterSettings(svb=svb, row_bytes=2048)
    states = trained(3, settings, schedule, on_device=on_device, statistics=True)
    check(states, support.alone(Tiny(statistics=True), 3, 6))


@pytest.mark.parametrize(
    ("settings", "passes", "clip"),
    [
        ({"svb": "on"}, 2, 1.0),
        ({"svb": "off"}, 2, 1.0),
        ({"overlap": False}, 1, -1.0),
        ({"servers": 1}, 1, -1.0),
        ({"force_ssp": True}, 2, -1.0),
    ],
)
def test_other_ways(settings, passes, clip):
    settings = ClusterSettings(**settings)
    states = trained(
        3, settings, SCHEDULES[0], passes=passes, clip=clip, statistics=True
    )
    workers = 3 - settings.servers
    expected = support.alone(Tiny(statistics=True), workers, 6, passes, clip)
    check(states, expected)


@pytest.mark.parametrize("staleness", [1, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_staleness_loses_nothing(schedule, staleness):
    settings = ClusterSettings(staleness=staleness, row_bytes=2048)
    states = trained(3, settings, schedule, is_free=True, statistics=True)
    # Statistics depend on who was how far, but in the end all have the same.
    for state in states:
        np.testing.assert_array_equal(state[-11:], states[0][-11:])
    check([state[:-11] for state in states], support.alone(Free(), 3, 6))


def test_what_never_travels_takes_no_pinned_memory():
    tiny = Far(device=EmulatedDevice())
    carrier = MirrorCarrier(None, tiny.slots, tiny.blobs, tiny.ops.transfers())
    assert all(mirror._data is None for mirror in carrier.mirrors)
    mirror = carrier.mirrors[2]
    np.testing.assert_array_equal(mirror.data, tiny.blobs[2].cpu_data)
    assert mirror.diff is mirror.diff
    assert not mirror.diff.any()


def test_values_go_back_once_they_are_new():
    tiny = Far(device=EmulatedDevice())
    carrier = MirrorCarrier(None, tiny.slots, tiny.blobs, tiny.ops.transfers())
    blob, mirror = tiny.blobs[0], carrier.mirrors[0]
    version, copies = blob.version, tiny.device.copies
    mirror.data[...] = 7
    carrier.show(0)
    assert (blob.cpu_data != 7).any()
    mirror.touch()
    before = copies.to_device
    carrier.show(0)
    carrier.show(0)
    assert copies.to_device == before + 1
    assert blob.version > version
    assert (blob.cpu_data == 7).all()


def test_statistics_are_not_overwritten_before_they_were_sent():
    courier = Courier(FakeNetwork(1).transport(0), ClusterSettings())
    courier.start()
    tiny = Far(device=EmulatedDevice(schedule=Schedule(0, 0)), statistics=True)
    slot = tiny.slots[-1]
    carrier = MirrorCarrier(courier, tiny.slots, tiny.blobs, tiny.ops.transfers())
    sent, mirror = [], carrier.mirrors[slot.index]
    for iteration in range(3):
        tiny.statistics_step(0, iteration)
        carrier.fetch(slot)
        carrier.then([slot.index], lambda: sent.append(mirror.data.copy()))
        carrier.quiet(slot.index)
        assert len(sent) == iteration + 1
        mirror.data[...] = 0
        np.testing.assert_array_equal(sent[-1], tiny.blobs[-1].cpu_data)
    courier.close()
