from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.gpu.cudnn.pooling import CudnnPooling, supports
from poseidon_caffe.backend.reference.pool import ReferencePool

AVERAGE = PoolGeometry((2, 3, 7, 8), (2, 3, 3, 4), (3, 2), (2, 2), (0, 0), "ave")
PADDED = PoolGeometry((2, 3, 7, 9), (2, 3, 4, 5), (3, 3), (2, 2), (1, 1), "ave")
OVERHANG = PoolGeometry((2, 3, 8, 8), (2, 3, 4, 4), (3, 3), (2, 2), (0, 0), "ave")
MAXIMUM = PoolGeometry((2, 3, 7, 9), (2, 3, 4, 5), (3, 3), (2, 2), (1, 1), "max")


def test_average_is_supported_where_no_window_oversteps():
    assert supports(AVERAGE)
    assert supports(PADDED)
    assert not supports(OVERHANG)
    whole = PoolGeometry((2, 3, 7, 9), (2, 3, 1, 1), (7, 9), (1, 1), (0, 0), "ave")
    assert supports(whole)
    assert not supports(dataclasses.replace(AVERAGE, x_shape=(0, 3, 7, 8)))
    assert not supports(dataclasses.replace(AVERAGE, method="stochastic"))


def test_maxima_are_supported_without_gradient_only():
    assert not supports(MAXIMUM)
    assert supports(MAXIMUM, backward=False)


class Own:
    """Records what is left to the device's own kernel."""

    def __init__(self):
        self.calls = []

    def forward(self, x, y, mask=None, rng=None):
        self.calls.append("forward")

    def backward(self, dy, dx, mask=None):
        self.calls.append("backward")


def check(kit, handle, geometry, dtype, channels_last, loose):
    rng = np.random.default_rng(1)
    x = rng.integers(-16, 17, geometry.x_shape) / 8.0
    dy = rng.integers(-16, 17, geometry.y_shape) / 8.0
    backward = geometry.method == "ave"
    kernel = CudnnPooling(geometry, handle, Own(), backward=backward)
    reference = ReferencePool(geometry)
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    reference.forward(x, y)
    reference.backward(dy, dx)
    on_y = kit.put(dy * np.nan, dtype, channels_last)
    kernel.forward(kit.put(x, dtype, channels_last), on_y)
    np.testing.assert_allclose(kit.get(on_y), y, rtol=loose, atol=loose)
    if backward:
        on_dx = kit.put(x * np.nan, dtype, channels_last)
        kernel.backward(kit.put(dy, dtype, channels_last), on_dx)
        np.testing.assert_allclose(kit.get(on_dx), dx, rtol=loose, atol=loose)
    assert not kernel._own.calls


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("geometry", [AVERAGE, PADDED, MAXIMUM])
def test_pooling_equals_the_reference(host_kit, handle, geometry, dtype, channels_last):
    check(host_kit, handle, geometry, dtype, channels_last, 2e-3)


def test_masks_and_overhanging_windows_go_to_the_own_kernel(host_kit, handle):
    own = Own()
    x = host_kit.put(np.zeros(MAXIMUM.x_shape), "float32", False)
    y = host_kit.put(np.zeros(MAXIMUM.y_shape), "float32", False)
    kernel = CudnnPooling(MAXIMUM, handle, own, backward=False)
    kernel.forward(x, y, mask=y)
    kernel.backward(y, x, mask=y)
    assert own.calls == ["forward", "backward"]
    CudnnPooling(OVERHANG, handle, own).forward(x, y)
    assert own.calls[2:] == ["forward"]


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("geometry", [AVERAGE, PADDED, MAXIMUM])
def test_real_pooling_equals_the_reference(real, geometry, dtype, channels_last):
    check(real, real.handle(), geometry, dtype, channels_last, 2e-3)
