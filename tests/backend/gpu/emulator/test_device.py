"""The stand-in for a GPU is as strict as one."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.device import BFLOAT16, Operand
from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.memory import NoRoomError
from poseidon_caffe.errors import BackendError


def test_memory_is_accounted():
    device = EmulatedDevice(limit_bytes=10_000)
    assert device.memory_bytes() == (10_000, 10_000)
    one = device.zeros(1000, np.float64)
    assert one.data.ptr % 256 == 0
    assert device.memory_bytes() == (2000, 10_000)
    view = one[10:20].view(np.uint8)
    del one
    assert device.memory_bytes() == (2000, 10_000), "a view holds it"
    with pytest.raises(NoRoomError):
        device.zeros(501, np.float32)
    del view
    assert device.memory_bytes() == (10_000, 10_000)
    assert device.zeros(2500, np.float32).size == 2500


def test_graphs_hold_what_they_work_on():
    device = EmulatedDevice(limit_bytes=10_000)
    arrays = [device.zeros(100, np.float32)]
    graph = device.capture(lambda: device.clear(arrays[0]))
    arrays.clear()
    assert device.memory_bytes()[0] == 9600
    graph.launch()
    del graph
    assert device.memory_bytes()[0] == 10_000


def test_copies_are_counted_and_exact():
    device = EmulatedDevice()
    array = device.zeros(4, np.float32)
    device.upload(np.arange(4, dtype=np.float32), array)
    out = np.empty(4, np.float32)
    device.download(array, out)
    assert out.tolist() == [0, 1, 2, 3]
    counted = device.copies
    assert (counted.to_device, counted.to_host) == (1, 1)
    assert (counted.to_device_bytes, counted.to_host_bytes) == (16, 16)
    for wrong in (np.zeros(4), np.zeros(4, np.int32)):
        with pytest.raises(TypeError):
            device.upload(wrong, array)
        with pytest.raises(TypeError):
            device.download(array, wrong)


def test_pinned_memory_is_zero():
    array = EmulatedDevice().pinned(5, np.float64)
    assert array.tolist() == [0.0] * 5


def test_captured_work_waits_for_its_launch():
    device = EmulatedDevice()
    array, host = device.zeros(4, np.float32), np.ones(4, np.float32)
    device.upload(host, array)

    def work():
        device.clear(array)
        for refused in (
            lambda: device.upload(host, array),
            lambda: device.download(array, host),
            device.synchronise,
        ):
            with pytest.raises(BackendError, match="while a graph is captured"):
                refused()

    graph = device.capture(work)
    assert host_view(array).tolist() == [1] * 4
    graph.launch()
    assert host_view(array).tolist() == [0] * 4


def test_an_error_ends_the_capture():
    device = EmulatedDevice()
    array = device.zeros(4, np.float32)

    def work():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        device.capture(work)
    device.upload(np.ones(4, np.float32), array)
    assert host_view(array).tolist() == [1] * 4


def test_kernels_see_arguments_of_every_kind():
    device = EmulatedDevice()
    array = device.zeros(4, np.float32)
    grid, block = (1, 1, 1), (32, 1, 1)
    device.launch("blas", "fill", "float", grid, block, (array, 3, 2.5))
    assert host_view(array).tolist() == [2.5, 2.5, 2.5, 0]
    assert device.launches == 1
    for wrong in (np.zeros(4), "x", [1]):
        with pytest.raises(BackendError, match="takes device arrays and numbers"):
            device.launch("blas", "fill", "float", grid, block, (wrong, 3, 2.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_products_of_batches(dtype):
    device, rng = EmulatedDevice(), np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 4), (5, 4)))
    there = []
    for host in (a, b, np.zeros((2, 3, 5), dtype)):
        array = device.zeros(host.size, host.dtype).reshape(host.shape)
        device.upload(host, array)
        there.append(array)
    device.gemm(
        3, 5, 4, 1.0, Operand(there[0], 4, step=12),
        Operand(there[1], 4, transposed=True), 0.0, Operand(there[2], 5, step=15), 2,
    )  # fmt: skip
    want = a.astype(np.float64) @ b.astype(np.float64).T
    loose = 2e-3 if dtype == np.float16 else 1e-5
    np.testing.assert_allclose(host_view(there[2]), want, rtol=loose, atol=loose)


def test_bfloat16_is_rounded_to_the_nearest_even():
    device = EmulatedDevice()
    values = np.array([[1.0, 3.0, 0.5]], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(BFLOAT16)
    a, c = DeviceArray(bits), device.zeros(1, BFLOAT16).reshape(1, 1)
    device.gemm(1, 1, 3, 1.0, Operand(a, 3), Operand(a, 3, transposed=True), 0.0,
                Operand(c, 1))  # fmt: skip
    # 10.25 lies between 10.25 and 10.3125 of 8 bits of mantissa.
    assert (host_view(c).astype(np.uint32) << 16).view(np.float32)[0, 0] == 10.25


def test_new_memory_is_cleared_in_turn():
    """With a schedule: who does not wait may find it uncleared, or have it cleared."""
    device = EmulatedDevice(schedule=Schedule(0, 0))
    array = device.zeros(4, np.float32)
    assert np.isnan(host_view(array)).all()
    device.synchronise()
    assert not host_view(array).any()
