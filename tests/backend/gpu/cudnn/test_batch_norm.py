from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.gpu.cudnn.batch_norm import CudnnBatchNorm, supports
from poseidon_caffe.backend.reference.batch_norm import ReferenceBatchNorm

TRAIN = BatchNormGeometry((3, 4, 2, 5), 1e-3, use_stored=False)
STORED = BatchNormGeometry(
    (3, 4, 2, 5), 1e-3, use_stored=True, affine=True, relu=True, inference=True
)


def test_what_is_supported():
    change = dataclasses.replace
    assert supports(TRAIN)
    assert supports(change(TRAIN, x_shape=(3, 4)))
    assert not supports(change(TRAIN, x_shape=(1, 4)))
    assert not supports(change(TRAIN, x_shape=(0, 4, 2, 2)))
    assert not supports(change(TRAIN, x_shape=(3,)))
    assert supports(STORED)
    assert not supports(change(STORED, inference=False))


def numbers(seed, shape):
    return np.random.default_rng(seed).integers(-16, 17, shape) / 8.0


def check_training(kit, handle, shape, dtype, channels_last, affine, in_place, loose):
    g = dataclasses.replace(TRAIN, x_shape=shape, affine=affine)
    x, dy = numbers(1, shape), numbers(2, shape)
    scale, shift = numbers(3, shape[1]), numbers(4, shape[1])
    rows = (scale, shift) if affine else ()
    reference = ReferenceBatchNorm(g)
    y, dx = np.zeros_like(x), np.zeros_like(x)
    mean, var, dscale, dshift = (np.zeros(shape[1]) for _ in range(4))
    reference.forward(x, y, mean, var, *rows)
    gradients = (scale, dscale, dshift) if affine else ()
    reference.backward(x, dy, dx, mean, var, *gradients)

    param = "float64" if dtype == "float64" else "float32"
    kernel = CudnnBatchNorm(g, handle, None)
    row = [kit.put(each, param, False) for each in rows]
    for _ in range(2):
        on_x = kit.put(x, dtype, channels_last)
        on_y = on_x if in_place else kit.put(x * np.nan, dtype, channels_last)
        on_mean, on_var, on_ds, on_db = (
            kit.put(np.full(shape[1], np.nan), param, False) for _ in range(4)
        )
        kernel.forward(on_x, on_y, on_mean, on_var, *row)
        on_dy = kit.put(dy, dtype, channels_last)
        on_dx = on_dy if in_place else kit.put(x * np.nan, dtype, channels_last)
        more = (row[0], on_ds, on_db) if affine else ()
        kernel.backward(on_x, on_dy, on_dx, on_mean, on_var, *more, in_place=in_place)
        results = [(on_y, y), (on_dx, dx), (on_mean, mean), (on_var, var)]
        results += [(on_ds, dscale), (on_db, dshift)] if affine else []
        for got, want in results:
            np.testing.assert_allclose(
                kit.get(got), want, rtol=loose, atol=loose * np.abs(want).max()
            )


CASES = [(shape, dtype, last, affine, in_place)
         for shape in ((3, 4, 2, 5), (6, 4), (2, 4, 2, 3, 2))
         for dtype in ("float32", "float64")
         for last in (False, True) if len(shape) > 2 or not last
         for affine in (False, True)
         for in_place in (False, True)]  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype", "last", "affine", "in_place"), CASES)
def test_training(host_kit, handle, shape, dtype, last, affine, in_place):
    check_training(host_kit, handle, shape, dtype, last, affine, in_place, 1e-4)


def check_stored(kit, handle, dtype, channels_last, loose):
    shape = STORED.x_shape
    x, mean, var = numbers(1, shape), numbers(2, 4), np.abs(numbers(3, 4)) + 0.5
    scale, shift = numbers(4, 4), numbers(5, 4)
    y = np.zeros(shape)
    ReferenceBatchNorm(STORED).forward(x, y, mean, var, scale, shift)
    param = "float64" if dtype == "float64" else "float32"
    rows = [kit.put(each, param, False) for each in (mean, var, scale, shift)]
    on_y = kit.put(x * np.nan, dtype, channels_last)
    CudnnBatchNorm(STORED, handle, None).forward(
        kit.put(x, dtype, channels_last), on_y, *rows
    )
    np.testing.assert_allclose(kit.get(on_y), y, rtol=loose, atol=loose)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "loose"), [("float32", 1e-5), ("float16", 5e-3)])
def test_stored_moments(host_kit, handle, dtype, loose, channels_last):
    check_stored(host_kit, handle, dtype, channels_last, loose)


def test_bfloat16_goes_to_the_own_kernel(host_kit, handle):
    calls = []

    class Own:
        def forward(self, *arrays):
            calls.append("forward")

        def backward(self, *arrays, in_place):
            calls.append("backward")

    kernel = CudnnBatchNorm(TRAIN, handle, Own())
    x = host_kit.put(np.zeros(TRAIN.x_shape), "uint16", False)
    row = host_kit.put(np.zeros(4), "float32", False)
    kernel.forward(x, x, row, row)
    kernel.backward(x, x, x, row, row, in_place=True)
    assert calls == ["forward", "backward"]


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "dtype", "last", "affine", "in_place"), CASES)
def test_real_training(real, shape, dtype, last, affine, in_place):
    check_training(real, real.handle(), shape, dtype, last, affine, in_place, 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "loose"), [("float32", 1e-5), ("float16", 5e-3)])
def test_real_stored_moments(real, dtype, loose, channels_last):
    check_stored(real, real.handle(), dtype, channels_last, loose)
