"""What may be done with device memory without a kernel: nothing but views."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view
from poseidon_caffe.errors import BackendError


def made(shape=(2, 3, 4)):
    return DeviceArray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def test_it_tells_what_numpy_tells():
    array, plain = made(), np.zeros((2, 3, 4), np.float32)
    for name in ("shape", "dtype", "strides", "ndim", "size", "nbytes", "itemsize"):
        assert getattr(array, name) == getattr(plain, name), name
    assert len(array) == 2
    assert array.flags.c_contiguous
    assert not array.T.flags.c_contiguous
    assert repr(array) == "<device array (2, 3, 4) float32>"


def test_views_are_of_the_same_memory():
    array = made()
    start = array.data.ptr
    assert array.reshape(6, 4).data.ptr == array.reshape((-1,)).data.ptr == start
    assert array.T.shape == (4, 3, 2)
    assert array.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert array[1].data.ptr == start + 48
    assert array[1, 2, 3].shape == ()
    assert array[1, 2, 3].data.ptr == start + 92
    assert array[:, None, ..., ::2].shape == (2, 1, 3, 2)
    assert array[np.int64(1)].shape == (3, 4)
    assert array.view(np.uint8).shape == (2, 3, 16)
    assert array.view(np.uint8).data.ptr == start


def test_reshapes_that_copy_are_refused():
    with pytest.raises(BackendError, match=r"without a copy: use ops\.copy"):
        made().T.reshape(-1)
    with pytest.raises(BackendError, match="without a copy"):
        made()[:, 1:].reshape(-1)
    assert made()[:0].reshape(0, 5).shape == (0, 5)


@pytest.mark.parametrize(
    "index", [np.array([0, 1]), [0, 1], 1.5, np.array([True, False])], ids=repr
)
def test_other_indices_are_refused(index):
    with pytest.raises(BackendError, match="not indexed by"):
        made()[index]


def test_no_numbers_come_out_or_go_in():
    array = made()
    with pytest.raises(BackendError, match="written by kernels"):
        array[...] = 0
    for convert in (np.asarray, float, int, bool, operator.index, np.sum):
        with pytest.raises((TypeError, BackendError)):
            convert(array)


@pytest.mark.parametrize(
    "deed",
    [
        operator.add, operator.sub, operator.mul, operator.truediv, operator.lt,
        operator.matmul, operator.iadd,
    ],
)  # fmt: skip
def test_no_arithmetic(deed):
    for other in (1.0, np.ones(4), made()):
        with pytest.raises(TypeError):
            deed(made(), other)
    with pytest.raises(TypeError):
        np.add(made(), 1)
    with pytest.raises(TypeError):
        np.ones(4) + made()


def test_equality_does_not_look_at_numbers():
    assert made() != made()
    array = made()
    assert array == array
    assert not hasattr(array, "copy")
    assert not hasattr(array, "sum")
    assert not hasattr(array, "astype")
    assert host_view(array)[1, 2, 3] == 23
