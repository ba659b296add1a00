from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.gpu.cudnn.lrn import CudnnLrn, supports
from poseidon_caffe.backend.reference.lrn import ReferenceLrn

GEOMETRY = LrnGeometry((2, 7, 3, 4), 5, 0.5, 0.75, 1.5, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"across_channels": False},
        {"size": 4},
        {"size": 17},
        {"k": 0.0},
        {"beta": 0.001},
        {"x_shape": (0, 7, 3, 4)},
        {"x_shape": (2, 7, 3)},
    ],
)
def test_what_is_not_supported(changes):
    assert supports(GEOMETRY)
    assert not supports(dataclasses.replace(GEOMETRY, **changes))


def check(kit, handle, dtype, channels_last, in_place, loose):
    rng = np.random.default_rng(1)
    x, dy = (rng.integers(-16, 17, GEOMETRY.x_shape) / 8.0 for _ in range(2))
    reference, y, dx = ReferenceLrn(GEOMETRY), np.zeros_like(x), np.zeros_like(x)
    reference.forward(x, y)
    reference.backward(x, y, dy, dx)
    kernel = CudnnLrn(GEOMETRY, handle, None)
    on_x, on_dy = (kit.put(each, dtype, channels_last) for each in (x, dy))
    on_y = kit.put(x * np.nan, dtype, channels_last)
    for _ in range(2):
        on_dy = kit.put(dy, dtype, channels_last)
        on_dx = on_dy if in_place else kit.put(x * np.nan, dtype, channels_last)
        kernel.forward(on_x, on_y)
        kernel.backward(on_x, on_y, on_dy, on_dx)
        np.testing.assert_allclose(kit.get(on_y), y, rtol=loose, atol=loose)
        np.testing.assert_allclose(kit.get(on_dx), dx, rtol=loose, atol=loose)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lrn_equals_the_reference(host_kit, handle, dtype, channels_last, in_place):
    check(host_kit, handle, dtype, channels_last, in_place, 1e-5)


def test_what_is_not_supported_goes_to_the_own_kernel(host_kit, handle):
    calls = []

    class Own:
        def forward(self, x, y):
            calls.append("forward")

        def backward(self, x, y, dy, dx):
            calls.append("backward")

    x = host_kit.put(np.zeros(GEOMETRY.x_shape), "float32", False)
    kernel = CudnnLrn(dataclasses.replace(GEOMETRY, k=0.0), handle, Own())
    kernel.forward(x, x)
    kernel.backward(x, x, x, x)
    assert calls == ["forward", "backward"]


@pytest.mark.gpu
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_lrn_equals_the_reference(real, dtype, channels_last, in_place):
    check(real, real.handle(), dtype, channels_last, in_place, 1e-4)
