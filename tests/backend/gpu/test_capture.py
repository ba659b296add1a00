"""Recorded work."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.test_base import get, numbers, put
from tests.devices import ON_CUDA, gpu_ops


def test_recording_does_nothing_and_replays_do_all_of_it():
    ops = gpu_ops()
    x, y = put(numbers((8,))), put(np.zeros(8, np.float32))

    def work():
        ops.add([x, y], y, [1.0, 1.0])

    work()
    replay = ops.capture(work)
    np.testing.assert_array_equal(get(y), numbers((8,)))
    for times in (2, 3):
        replay.run()
        np.testing.assert_array_equal(get(y), times * numbers((8,)))


def test_replays_of_products_and_random_numbers():
    ops = gpu_ops()
    a, c = put(numbers((3, 3))), put(np.zeros((3, 3), np.float32))

    def work():
        ops.gemm(a, a, c)

    work()
    want = get(c)
    replay = ops.capture(work)
    ops.memory.clear(c)
    replay.run()
    np.testing.assert_array_equal(get(c), want)


def test_reading_or_writing_on_the_host_is_refused_meanwhile():
    ops, array = gpu_ops(), put(numbers((8,)))
    host = np.zeros(8, np.float32)
    for work in (
        lambda: ops.memory.download(array, host),
        lambda: ops.memory.upload(host, array),
        ops.device.synchronise,
    ):
        with pytest.raises(BackendError):
            ops.capture(work)
    # And the device goes on as before.
    np.testing.assert_array_equal(get(array), numbers((8,)))
    assert not host.any()


def test_an_error_of_the_work_goes_up_as_it_is():
    def work():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gpu_ops().capture(work)
    np.testing.assert_array_equal(get(put(numbers((8,)))), numbers((8,)))


def test_the_user_may_forbid_it():
    assert gpu_ops().captures
    ops = get_ops("gpu", gpu=GpuSettings(emulated=not ON_CUDA, cuda_graph=False))
    assert not ops.captures
    assert not get_ops("reference").captures


def test_allocations_are_counted():
    ops = gpu_ops()
    before = ops.memory.allocations
    ops.memory.zeros(0, np.float32)
    assert ops.memory.allocations == before
    ops.memory.zeros(3, np.float32)
    assert ops.memory.allocations == before + 1
