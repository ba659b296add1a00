"""Bias and ReLU after products and convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, here, there
from tests.devices import gpu_ops


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize(
    ("shape", "last"),
    [((2, 5, 3, 7), False), ((2, 5, 3, 7), True), ((7, 5), False), ((0, 5), False)],
)
@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_relu_in_place(storage, shape, last, slope, biased):
    # Whole numbers: exact in 16 bits.
    y = np.random.default_rng(5).integers(-8, 8, shape) * 4.0
    b = np.arange(-2.0, 3.0) * 4
    top = there(y, storage, channels_last=last)
    gpu_ops().add_bias(top, there(b) if biased else None, slope)
    want = y + b.reshape(-1, *[1] * (len(shape) - 2)) if biased else y
    if slope is not None:
        want = np.where(want > 0, want, slope * want)
    assert np.array_equal(here(top), want)


def test_gaps_are_left_alone():
    whole = there(np.ones((2, 3, 4, 6)))
    gpu_ops().add_bias(whole[..., :4], there(np.array([1.0, 2, 3])), None)
    want = np.ones((2, 3, 4, 6))
    want[..., :4] += np.array([1, 2, 3])[:, None, None]
    assert np.array_equal(here(whole), want)


def test_an_inner_product_ends_with_them_in_one_launch():
    x, w, b = (np.arange(n, dtype=float) - 5 for n in (12, 15, 5))
    x, w, y = x.reshape(4, 3), w.reshape(5, 3), there(np.zeros((4, 5)))
    device, arrays = gpu_ops().device, [there(a) for a in (x, w, b)]
    gpu_ops().inner_product(*arrays[:2], None, y)
    before = device.launches
    gpu_ops().inner_product(*arrays[:2], None, y)
    product = device.launches - before
    gpu_ops().inner_product(*arrays, y, relu=0.5)
    assert device.launches - before == 2 * product + 1
    made = x @ w.T + b
    assert np.array_equal(here(y), np.where(made > 0, made, 0.5 * made))
