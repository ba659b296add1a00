"""Copies on the GPU: every kernel that may be chosen, alignment and odd lengths."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu import copies
from tests.backend.gpu.storage import BFLOAT, HALF, rounded
from tests.devices import gpu_ops

TYPES = [np.uint8, np.float16, np.float32, np.float64, np.int64]


class Watched:
    """Kernels of ``copy.cu``, and which of them ran."""

    def __init__(self) -> None:
        self._kernels, self.ran = gpu_ops().kernels("copy"), []

    def blocks(self, kernel: str, *args, **options) -> None:
        self.ran.append(kernel)
        self._kernels.blocks(kernel, *args, **options)


def on_device(values: np.ndarray, shift: int = 0):
    """A device array of the numbers, ``shift`` of them past an aligned address."""
    memory = gpu_ops().memory
    whole = memory.zeros(values.size + shift, values.dtype)
    memory.upload(np.ascontiguousarray(values).reshape(-1), whole[shift:])
    return whole[shift:].reshape(values.shape)


def on_host(array) -> np.ndarray:
    plain = gpu_ops().memory.zeros(array.size, array.dtype).reshape(array.shape)
    copies.strided_copy(gpu_ops().kernels("copy"), array, plain)
    values = np.empty(array.shape, array.dtype)
    gpu_ops().memory.download(plain, values)
    return values


def numbers(shape, dtype) -> np.ndarray:
    made = np.random.default_rng(3).integers(0, 200, shape)
    return made.astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2, 40, 5, 7), (1, 16, 4, 4), (3, 33, 65)])
def test_turning_and_back(dtype, shape):
    x = numbers(shape, dtype)
    kernels, source = Watched(), on_device(x)
    turned = on_device(np.zeros_like(np.moveaxis(x, 1, -1)))
    target = turned.transpose((0, x.ndim - 1, *range(1, x.ndim - 1)))
    copies.strided_copy(kernels, source, target)
    np.testing.assert_array_equal(on_host(turned), np.moveaxis(x, 1, -1))
    back = on_device(np.zeros_like(x))
    copies.strided_copy(kernels, target, back)
    np.testing.assert_array_equal(on_host(back), x)
    assert kernels.ran == [f"turn_{x.itemsize}"] * 2


def test_what_is_not_worth_a_tile_is_copied_item_by_item():
    x = numbers((2, 3, 5, 7), np.float32)
    kernels, turned = Watched(), on_device(np.zeros((2, 5, 7, 3), np.float32))
    copies.strided_copy(kernels, on_device(x), turned.transpose((0, 3, 1, 2)))
    np.testing.assert_array_equal(on_host(turned), np.moveaxis(x, 1, -1))
    assert kernels.ran == ["copy_4"]


@pytest.mark.parametrize(
    ("width", "shift", "size"), [(8, 0, 16), (6, 0, 8), (8, 2, 8), (5, 0, 4), (8, 1, 4)]
)
def test_neighbours_move_together_where_they_are_aligned(width, shift, size):
    x = numbers((7, 2 * width), np.float32)
    kernels, source = Watched(), on_device(x, shift)
    target = on_device(np.zeros((7, width), np.float32))
    copies.strided_copy(kernels, source[:, width:], target)
    np.testing.assert_array_equal(on_host(target), x[:, width:])
    assert kernels.ran == [f"copy_{size}"]


@pytest.mark.parametrize("count", [1, 1024, 1030, 5000])
def test_every_item_of_long_copies(count):
    x = numbers((2 * count,), np.float32)
    target = on_device(np.zeros(count, np.float32))
    copies.strided_copy(Watched(), on_device(x)[::2], target)
    np.testing.assert_array_equal(on_host(target), x[::2])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.float32, np.float64),
        (np.float64, np.float32),
        (np.float32, HALF),
        (HALF, np.float32),
        (np.float32, BFLOAT),
        (np.uint8, np.float32),
    ],
)
@pytest.mark.parametrize("shape", [(4, 36), (3, 7)])
def test_types_are_converted(source, target, shape):
    x = (np.random.default_rng(4).standard_normal(shape) * 50 + 100).astype(source)
    kernels, made = Watched(), on_device(np.zeros(shape, target))
    copies.strided_copy(kernels, on_device(x), made)
    got = on_host(made)
    if target == BFLOAT:
        got = (got.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(got, rounded(x, BFLOAT))
    else:
        np.testing.assert_array_equal(got, x.astype(target))
    assert kernels.ran[0].endswith("_by_4") == (shape == (4, 36))


def test_more_than_a_kernel_counts_goes_by_parts(monkeypatch):
    monkeypatch.setattr(copies, "_MOST_ITEMS", 50)
    x = numbers((3, 40, 17), np.float32)
    kernels, turned = Watched(), on_device(np.zeros((3, 17, 40), np.float32))
    copies.strided_copy(kernels, on_device(x), turned.transpose((0, 2, 1)))
    monkeypatch.undo()
    np.testing.assert_array_equal(on_host(turned), np.moveaxis(x, 1, -1))
    assert len(kernels.ran) > 40


def test_more_axes_than_a_kernel_takes_go_by_parts():
    x = numbers((2, 3, 2, 2, 2, 3, 2), np.float32)
    target = on_device(np.zeros(x.T.shape, np.float32))
    copies.strided_copy(Watched(), on_device(x).T, target)
    np.testing.assert_array_equal(on_host(target), x.T)


def test_six_axes():
    x = numbers((2, 3, 2, 3, 2, 4), np.float32)
    order = (4, 2, 0, 5, 3, 1)
    target = on_device(np.zeros(x.transpose(order).shape, np.float32))
    copies.strided_copy(Watched(), on_device(x).transpose(order), target)
    np.testing.assert_array_equal(on_host(target), x.transpose(order))
