"""Stochastic pooling by the GPU's own generator."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, assert_near, here, there
from tests.devices import gpu_ops


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
def test_samples_by_value_whatever_the_layout(storage):
    shape, out = (8, 16, 4, 4), (8, 16, 2, 2)
    g = PoolGeometry(shape, out, (2, 2), (2, 2), (0, 0), "stochastic")
    x = np.zeros(shape)
    x[..., ::2, ::2], x[..., 1::2, 1::2] = 1, 3
    found = []
    for last in (False, True):
        kernel, rng = gpu_ops().pooling(g), gpu_ops().generator((5, 6))
        y = there(np.zeros(out), storage, channels_last=last)
        dx = there(np.zeros(shape), storage, channels_last=last)
        image = there(x, storage, channels_last=last)
        kernel.forward(image, y, rng=rng)
        kernel.backward(y, dx)
        first = here(y)
        np.testing.assert_array_equal(
            here(dx)[..., 1::2, 1::2], np.where(first == 3, 3, 0)
        )
        np.testing.assert_array_equal(here(dx).sum((2, 3)), first.sum((2, 3)))
        kernel.forward(image, y, rng=rng)
        assert (here(y) != first).any()
        found.append(first)
    np.testing.assert_array_equal(*found)
    assert 0.65 < (found[0] == 3).mean() < 0.85
    assert set(np.unique(found[0])) == {1, 3}


def test_draws_by_the_gpu_need_no_copies():
    g = PoolGeometry((1, 2, 4, 4), (1, 2, 2, 2), (2, 2), (2, 2), (0, 0), "stochastic")
    kernel, rng = gpu_ops().pooling(g), gpu_ops().generator((1,))
    x, y = there(np.ones(g.x_shape)), there(np.zeros(g.y_shape))
    copies = gpu_ops().device.copies
    before = copies.to_device, copies.to_host
    kernel.forward(x, y, rng=rng)
    kernel.backward(y, x)
    assert (copies.to_device, copies.to_host) == before


@pytest.mark.parametrize("storage", [HALF, BFLOAT], ids=["half", "bf"])
def test_the_mean_of_16_bits(storage):
    g = PoolGeometry((1, 2, 4, 4), (1, 2, 3, 3), (2, 2), (1, 1), (0, 0), "stochastic")
    x = np.random.default_rng(2).integers(1, 9, g.x_shape).astype(float)
    part = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))
    y = there(np.zeros(g.y_shape), storage, channels_last=True)
    kernel = gpu_ops().pooling(g)
    kernel.forward(there(x, storage), y)
    assert_near(y, (part**2).sum((4, 5)) / part.sum((4, 5)), storage, 1)
