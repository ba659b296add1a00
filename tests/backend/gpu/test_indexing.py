"""Row numbers on the device."""

from __future__ import annotations

import numpy as np
import pytest

from tests.devices import gpu_ops


def there(values):
    values = np.array(values)
    array = gpu_ops().memory.zeros(values.size, values.dtype)
    gpu_ops().memory.upload(values.reshape(-1), array)
    return array.reshape(values.shape)


def here(array):
    found = np.empty(array.shape, array.dtype)
    gpu_ops().memory.download(array, found)
    return found


def test_numbers_that_were_faults_choose_nothing():
    x, index = there(np.arange(6, dtype=np.float32).reshape(3, 2)), there([-1, 2, -1])
    y = there(np.full((3, 2), 7, np.float32))
    gpu_ops().gather_rows(x, index, y)
    np.testing.assert_array_equal(here(y), [[0, 0], [4, 5], [0, 0]])
    dx = there(np.full((3, 2), 7, np.float32))
    gpu_ops().scatter_add_rows(x, index, dx)
    np.testing.assert_array_equal(here(dx), [[0, 0], [0, 0], [2, 3]])


@pytest.mark.parametrize("storage", [np.float16, np.uint16])
def test_parameters_of_nets_of_16_bits_have_32(storage):
    weights, index = np.array([[0.5, 1], [2, 4]], np.float32), there([1, 0, 1])
    y = there(np.zeros((3, 2), storage))
    gpu_ops().gather_rows(there(weights), index, y, there(np.ones(2, np.float32)))
    wide = np.array([[3, 5], [1.5, 2], [3, 5]], np.float32)
    bits = wide.view(np.uint32) >> 16
    want = bits.astype(np.uint16) if storage == np.uint16 else wide.astype(storage)
    np.testing.assert_array_equal(here(y), want)
    dw = there(np.ones((2, 2), np.float32))
    gpu_ops().scatter_add_rows(y, index, dw, accumulate=True)
    np.testing.assert_array_equal(here(dw), [[2.5, 3], [7, 11]])


def test_nothing_comes_back_to_the_host():
    index, x = there([1, 1]), there(np.ones((2, 3), np.float32))
    copies = gpu_ops().device.copies
    before = (copies.to_host, copies.to_device)
    gpu_ops().scatter_add_rows(x, index, there(np.ones((2, 3), np.float32)))
    assert (copies.to_host, copies.to_device - 1) == before
