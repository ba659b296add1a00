"""How kernels are started."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.device import BFLOAT16, storage_of
from poseidon_caffe.backend.gpu.launcher import THREADS, Launcher, row_threads
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.test_base import get, put
from tests.devices import ON_CUDA, gpu_ops


class Noting:
    """A device that writes down how it is asked."""

    def __init__(self):
        self.launches = []

    def launch(self, *given):
        self.launches.append(given)


def test_grids_cover_the_count_and_stay_in_cudas_limits():
    device = Noting()
    launcher = Launcher(device, "blas")
    for count in (0, 1, THREADS, THREADS + 1, 1 << 40):
        launcher.each("fill", np.dtype(np.float32), count, None, count, 1.0)
    grids = [(given[3], given[4]) for given in device.launches]
    block = (THREADS, 1, 1)
    assert grids == [
        ((1, 1, 1), block), ((1, 1, 1), block), ((2, 1, 1), block),
        ((65_535, 1, 1), block),
    ]  # fmt: skip
    assert device.launches[0][:3] == ("blas", "fill", "float")
    assert device.launches[0][5] == (None, 1, 1.0)


def test_blocks_of_other_sizes():
    device = Noting()
    launcher = Launcher(device, "blas")
    launcher.blocks("fill", np.dtype(np.float64), 3, threads=64)
    launcher.blocks("fill", np.dtype(np.float64), 0)
    assert [given[2:5] for given in device.launches] == [
        ("double", (3, 1, 1), (64, 1, 1))
    ]


def test_storage_types():
    names = [storage_of(np.dtype(kind)) for kind in ("f4", "f8", "f2", BFLOAT16)]
    assert names == ["float", "double", "half16", "bfloat16"]
    with pytest.raises(KeyError):
        storage_of(np.dtype(np.int32))


@pytest.mark.parametrize("kind", ["f4", "f8", "f2"])
def test_arguments_arrive(kind):
    array = put(np.zeros(300, kind))
    kernels = gpu_ops().kernels("blas")
    kernels.each("fill", array.dtype, 300, array, np.int64(299), np.float64(2.5))
    assert get(array).tolist() == [2.5] * 299 + [0]
    kernels.blocks("fill", array.dtype, 1, array, 300, -1.0, threads=32)
    assert get(array).tolist() == [-1] * 300


def test_what_is_no_argument():
    array = put(np.zeros(3, np.float32))
    with pytest.raises(BackendError, match=r"device arrays and numbers, not a str"):
        gpu_ops().kernels("blas").each("fill", array.dtype, 3, "array", 3, 1.0)
    if not ON_CUDA:
        with pytest.raises(BackendError, match="ndarray"):
            gpu_ops().kernels("blas").each("fill", array.dtype, 3, np.zeros(3), 3, 1.0)
        with pytest.raises(BackendError, match="no kernel"):
            gpu_ops().kernels("blas").each("nothing", array.dtype, 3, array)


@pytest.mark.parametrize(
    ("length", "threads"),
    [(0, 32), (1, 32), (32, 32), (33, 64), (128, 128), (129, 256), (9999, 256)],
)
def test_threads_of_a_row(length, threads):
    assert row_threads(length) == threads
