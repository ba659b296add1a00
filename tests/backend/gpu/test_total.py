"""The loss of a net on the device."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.backend.gpu.test_base import put
from tests.devices import gpu_ops


def copies():
    counted = gpu_ops().device.copies
    return np.array([counted.to_device, counted.to_host, counted.to_host_bytes])


def test_the_weighted_sum_of_all_losses():
    total = gpu_ops().loss_total()
    total.clear()
    assert total.read() == 0
    total.add(put(np.full((), 2, np.float32)), put(np.full((), 0.5, np.float32)))
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    total.add(put(values), put(np.full_like(values, 0.25)))
    assert total.read() == 1 + values.sum() / 4
    total.clear()
    assert total.read() == 0


def test_layouts_and_types():
    total = gpu_ops().loss_total()
    total.clear()
    values = np.arange(120.0).reshape(2, 3, 4, 5)
    weights = np.arange(120.0)[::-1].reshape(2, 3, 4, 5)
    total.add(put(values, (0, 2, 3, 1)), put(np.ascontiguousarray(weights)))
    assert total.read() == (values * weights).sum()


def test_nan_goes_through():
    total = gpu_ops().loss_total()
    total.clear()
    total.add(put(np.array([1, np.nan])), put(np.ones(2)))
    assert np.isnan(total.read())


def test_one_copy_of_16_bytes_a_pass():
    total = gpu_ops().loss_total()
    one = put(np.ones(1, np.float32))
    before = copies()
    total.clear()
    total.add(one, one)
    total.read()
    assert (copies() - before).tolist() == [0, 1, 16]


def test_faults_are_raised_with_the_loss():
    ops = gpu_ops()
    total, one = ops.loss_total(), put(np.ones(1, np.float32))
    check = ops.number_check(lambda v, at, n: LayerError(f"{v} at {at} of {n}"))
    total.clear()
    check.run(put(np.array([1, 5], np.float32)), 3)
    total.add(one, one)
    with pytest.raises(LayerError, match=r"5\.0 at 1 of 3"):
        total.read()
    total.clear()
    check.run(put(np.array([1, 2], np.float32)), 3)
    total.add(one, one)
    assert total.read() == 1
