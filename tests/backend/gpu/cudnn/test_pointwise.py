from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn.constants import ActivationMode
from poseidon_caffe.backend.gpu.cudnn.pointwise import (
    CudnnActivation,
    CudnnSoftmax,
    softmax_layout,
)
from poseidon_caffe.errors import BackendError

FUNCTIONS = {
    ActivationMode.RELU: (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    ActivationMode.SIGMOID: (
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2,
    ),
    ActivationMode.TANH: (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    ActivationMode.ELU: (
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
        lambda x: np.where(x > 0, 1, 0.5 * np.exp(x)),
    ),
}


def test_a_softmax_axis_has_what_is_before_and_after_it():
    assert softmax_layout((2, 3, 4, 5), 2).dims == (6, 4, 5, 1)
    assert softmax_layout((2, 3), 1).strides == (3, 1, 1, 1)
    with pytest.raises(BackendError, match="0"):
        softmax_layout((0, 3), 1)


def check_softmax(kit, handle):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 5)) + 100, rng.standard_normal((2, 3, 4, 5))
    for axis in range(4):
        y = np.exp(x - x.max(axis, keepdims=True))
        y /= y.sum(axis, keepdims=True)
        dx = y * (dy - (y * dy).sum(axis, keepdims=True))
        kernel = CudnnSoftmax(handle)
        on_y, on_dx = (kit.put(x * np.nan, "float32", False) for _ in range(2))
        kernel.forward(kit.put(x, "float32", False), on_y, axis)
        kernel.backward(on_y, kit.put(dy, "float32", False), on_dx, axis)
        np.testing.assert_allclose(kit.get(on_y), y, rtol=1e-4)
        np.testing.assert_allclose(kit.get(on_dx), dx, rtol=1e-4, atol=1e-6)


def check_activation(kit, handle, mode):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 7)), rng.standard_normal((3, 7))
    function, slope = FUNCTIONS[mode]
    kernel = CudnnActivation(handle, mode, 0.5)
    on_x, on_dy = (kit.put(each, "float32", False) for each in (x, dy))
    on_y = kit.put(x * np.nan, "float32", False)
    kernel.forward(on_x, on_y)
    kernel.backward(on_x, on_y, on_dy, on_dy)
    np.testing.assert_allclose(kit.get(on_y), function(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kit.get(on_dy), dy * slope(x), rtol=1e-4, atol=1e-6)


def test_softmax(host_kit, handle):
    check_softmax(host_kit, handle)


@pytest.mark.parametrize("mode", FUNCTIONS)
def test_activation(host_kit, handle, mode):
    check_activation(host_kit, handle, mode)


@pytest.mark.gpu
def test_real_softmax(real):
    check_softmax(real, real.handle())


@pytest.mark.gpu
@pytest.mark.parametrize("mode", FUNCTIONS)
def test_real_activation(real, mode):
    check_activation(real, real.handle(), mode)
