"""CuPy's device: what it hands to CUDA, and on a real GPU what comes of it."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cupy_device import (
    CupyDevice,
    CupyEvent,
    _cuda_type,
    _value,
)
from poseidon_caffe.backend.gpu.device import BFLOAT16
from poseidon_caffe.backend.memory import NoRoomError
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import there
from tests.devices import gpu_ops


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, np.uint64(0)),
        (True, np.int64(1)),
        (np.bool_(False), np.int64(0)),
        (-3, np.int64(-3)),
        (np.int32(7), np.int64(7)),
        (0.5, np.float64(0.5)),
        (np.float32(0.25), np.float64(0.25)),
    ],
)
def test_every_argument_has_8_bytes(given, want):
    made = _value(given)
    assert (made.dtype, made) == (want.dtype, want)


def test_arrays_are_given_by_their_address():
    array = there(np.zeros(4))
    assert _value(array) == array.data.ptr
    assert _value(array).dtype == np.uint64
    with pytest.raises(BackendError, match="not a list"):
        _value([1])


def test_types_are_cudas():
    """CUDA_R_32F, 64F, 16F and 16BF of library_types.h."""
    kinds = (np.float32, np.float64, np.float16, BFLOAT16)
    arrays = [np.zeros(1, kind) for kind in kinds]
    assert [_cuda_type(array) for array in arrays] == [0, 1, 2, 14]


class Runtime:
    """Answers as ``cupy.cuda.runtime`` does when it is asked about an event."""

    def __init__(self, status: int) -> None:
        self.status = status

    def eventQuery(self, event: int) -> int:
        assert event == 0x60
        return self.status

    def check_status(self, status: int) -> None:
        raise RuntimeError(f"CUDA's error {status}")


@pytest.mark.parametrize(("status", "want"), [(0, True), (600, False)])
def test_work_is_done_or_not(status, want):
    device = SimpleNamespace(claim=lambda: Runtime(status))
    assert CupyEvent(SimpleNamespace(ptr=0x60), device).done() is want


def test_waiting_ends_when_the_gpu_fails():
    """Else whoever asks until all is done asks for ever."""
    device = SimpleNamespace(claim=lambda: Runtime(700))
    with pytest.raises(RuntimeError, match="error 700"):
        CupyEvent(SimpleNamespace(ptr=0x60), device).done()


class Current:
    """CUDA's current GPU: one a thread, 0 where nobody has chosen."""

    def __init__(self) -> None:
        self.own, self.taken = threading.local(), set()

    def getDevice(self) -> int:
        return getattr(self.own, "device", 0)

    def setDevice(self, device: int) -> None:
        self.own.device = device
        self.taken.add(device)  # since CUDA 12 it takes memory there


class Switch:
    """`cupy.cuda.Device`: leaves with the GPU that was there before."""

    def __init__(self, current: Current, device: int) -> None:
        self.current, self.device = current, device

    def __enter__(self) -> None:
        self.before = self.current.getDevice()
        self.current.setDevice(self.device)

    def __exit__(self, *args: object) -> None:
        self.current.setDevice(self.before)


def test_a_thread_takes_no_other_gpu_than_its_own():
    current, seen = Current(), []
    device = CupyDevice.__new__(CupyDevice)
    cuda = SimpleNamespace(runtime=current, Device=lambda n: Switch(current, n))
    device.index, device.cupy = 3, SimpleNamespace(cuda=cuda)

    def work():
        for _ in range(2):
            with device.on_this_thread():
                seen.append(current.getDevice())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [3, 3]
    assert current.taken == {3}


class Stream:
    """Records as a CUDA stream does, or fails to."""

    def __init__(self, fails: bool = False) -> None:
        self.calls, self._fails = [], fails

    def begin_capture(self) -> None:
        self.calls.append("begin")

    def end_capture(self) -> str:
        self.calls.append("end")
        if self._fails:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return "graph"


def capture(stream, work):
    device = SimpleNamespace(
        claim=lambda: None, compute=SimpleNamespace(raw=stream), _capturing=False
    )
    return device, CupyDevice.capture(device, work)


def test_nothing_is_collected_while_work_is_recorded():
    """A handle's destruction waits for the GPU, which ends a recording."""
    seen = []
    stream = Stream()
    device, graph = capture(stream, lambda: seen.append(gc.isenabled()))
    assert (seen, gc.isenabled()) == ([False], True)
    assert (graph._raw, stream.calls) == ("graph", ["begin", "end"])
    assert not device._capturing


def test_a_recording_that_fails_is_ended():
    def work():
        raise KeyError("mine")

    for fails in (False, True):
        stream = Stream(fails)
        with pytest.raises(KeyError, match="mine"):
            capture(stream, work)
        assert stream.calls == ["begin", "end"]
        assert gc.isenabled()
    with pytest.raises(BackendError, match="recorded nothing: cudaErrorStreamCapture"):
        capture(Stream(fails=True), lambda: None)


@pytest.mark.gpu
def test_a_real_device_keeps_count():
    device = gpu_ops().device
    assert isinstance(device, CupyDevice)
    assert device.compute_capability >= (7, 0)
    array = device.zeros(1000, np.float32)
    assert array.data.ptr % 256 == 0
    launches, copies = device.launches, device.copies.to_host
    device.launch("blas", "fill", "float", (4, 1, 1), (256, 1, 1), (array, 1000, 2.5))
    values = np.zeros(1000, np.float32)
    device.download(array, values)
    assert (values == 2.5).all()
    assert (device.launches, device.copies.to_host) == (launches + 1, copies + 1)
    free, total = device.memory_bytes()
    assert 0 < free <= total
    with pytest.raises(NoRoomError):
        device.zeros(total, np.float64)
