"""Page-locked memory: taken from CUDA, kept by its views, given back once."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.pinned import pinned_array
from tests.backend.gpu.storage import there
from tests.devices import gpu_ops


class CUDARuntimeError(RuntimeError):
    """As CuPy's, which has no text but CUDA's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


class Runtime:
    """Memory of the host by ``cupy.cuda.runtime``'s functions, dirty at first."""

    CUDARuntimeError = CUDARuntimeError

    def __init__(self, fails: int = 0) -> None:
        self.hostAllocPortable = 1
        self.fails, self.claims = fails, 0
        self.taken, self.freed = {}, []

    def claim(self) -> Runtime:
        self.claims += 1
        return self

    def hostAlloc(self, size: int, flags: int) -> int:
        assert flags == 1
        if self.fails:
            raise CUDARuntimeError(self.fails)
        block = ctypes.create_string_buffer(b"\xff" * size, size)
        self.taken[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def freeHost(self, address: int) -> None:
        if self.fails:
            raise CUDARuntimeError(self.fails)
        self.freed.append((address, len(self.taken.pop(address))))


def test_zeros_of_exactly_the_size_asked_for():
    runtime = Runtime()
    array = pinned_array(runtime.claim, 5, np.float64)
    assert (array.shape, array.dtype) == ((5,), np.float64)
    assert (array == 0).all()
    array[...] = range(5)
    [(address, block)] = runtime.taken.items()
    assert (array.ctypes.data, len(block)) == (address, 40)
    assert np.frombuffer(block).tolist() == [0, 1, 2, 3, 4]


def test_the_last_view_gives_the_memory_back():
    runtime = Runtime()
    array = pinned_array(runtime.claim, 6, np.float32)
    address = array.ctypes.data
    view = array[2:].reshape(2, 2).view(np.int32)
    del array
    gc.collect()
    assert runtime.freed == []
    view[...] = 7
    claims = runtime.claims
    del view
    gc.collect()
    assert runtime.freed == [(address, 24)]
    assert runtime.claims == claims + 1  # else CUDA would take memory on GPU 0


def test_an_array_of_nothing_has_an_address():
    runtime = Runtime()
    array = pinned_array(runtime.claim, 0, np.uint16)
    assert array.shape == (0,)
    assert array.ctypes.data in runtime.taken
    del array
    gc.collect()
    assert [size for _, size in runtime.freed] == [2]


def test_what_the_host_lacks_is_said():
    with pytest.raises(MemoryError, match=r"no 8\.00 KiB of page-locked memory"):
        pinned_array(Runtime(fails=2).claim, 1024, np.float64)


def test_any_other_failure_is_cudas():
    with pytest.raises(CUDARuntimeError, match="cudaError 700"):
        pinned_array(Runtime(fails=700).claim, 1, np.float64)


def test_giving_back_after_a_failure_of_the_gpu_is_silent(recwarn, capsys):
    runtime = Runtime()
    array = pinned_array(runtime.claim, 1, np.float64)
    runtime.fails = 700
    del array
    gc.collect()
    assert (runtime.freed, len(runtime.taken)) == ([], 1)
    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


@pytest.mark.gpu
def test_a_real_gpu_copies_from_and_to_it():
    device, target = gpu_ops().device, there(np.ones(1000))
    arrays = [device.pinned(1000, np.float32) for _ in range(2)]
    runtime = device.claim()
    kinds = [runtime.pointerGetAttributes(a.ctypes.data).type for a in arrays]
    assert kinds == [runtime.memoryTypeHost] * 2
    arrays[0][...] = range(1000)
    device.compute.upload(arrays[0], target)
    device.compute.download(target, arrays[1])
    device.synchronise()
    assert (arrays[0] == arrays[1]).all()
