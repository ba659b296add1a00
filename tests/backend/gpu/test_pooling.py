"""What the GPU's pooling does besides what every backend does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import (
    BFLOAT,
    FLOAT,
    HALF,
    assert_near,
    here,
    rounded,
    there,
)
from tests.backend.reference.test_pool import (
    naive_average,
    naive_max,
    naive_max_gradient,
)
from tests.devices import gpu_ops

OVERLAP = PoolGeometry((2, 3, 7, 6), (2, 3, 4, 3), (3, 3), (2, 2), (1, 1), "max")
LARGE = PoolGeometry((2, 5, 9, 8), (2, 5, 2, 2), (8, 7), (2, 2), (1, 1), "max")
WHOLE = PoolGeometry((3, 40, 7, 7), (3, 40, 1, 1), (7, 7), (1, 1), (0, 0), "max")
# Strides and widths that are no powers of two, gaps between windows; a single row.
APART = PoolGeometry((2, 3, 11, 13), (2, 3, 3, 3), (2, 3), (5, 6), (0, 1), "max")
ROW = PoolGeometry((3, 2, 7, 9), (3, 2, 1, 4), (7, 3), (3, 2), (0, 0), "max")
GEOMETRIES = {
    "overlap": OVERLAP, "large": LARGE, "whole": WHOLE, "apart": APART, "row": ROW,
}  # fmt: skip
LAYOUTS = list(itertools.product([False, True], repeat=2))


def of(name, method):
    g = GEOMETRIES[name]
    return PoolGeometry(g.x_shape, g.y_shape, g.kernel, g.stride, g.pad, method)


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_max_of_all_types_and_mixed_layouts(name, x_last, y_last, storage):
    g, rng = of(name, "max"), np.random.default_rng(5)
    x = rng.integers(-9, 9, g.x_shape).astype(float)
    dy = rng.integers(-4, 5, g.y_shape).astype(float)
    want, winners = naive_max(g, x)
    y, mask = (
        there(np.full(g.y_shape, np.nan), storage, channels_last=last)
        for last in (y_last, x_last)
    )
    dx = there(np.full(g.x_shape, np.nan), storage, channels_last=x_last)
    kernel = gpu_ops().pooling(g)
    kernel.forward(there(x, storage, channels_last=x_last), y, mask)
    kernel.backward(there(dy, storage, channels_last=not y_last), dx, mask)
    np.testing.assert_array_equal(here(y), want)
    np.testing.assert_array_equal(here(mask), winners)
    np.testing.assert_array_equal(here(dx), naive_max_gradient(g, winners, dy))


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_average_of_all_types_and_mixed_layouts(name, x_last, y_last, storage):
    g = of(name, "ave")
    x = rounded(np.random.default_rng(6).standard_normal(g.x_shape), storage)
    y = there(np.full(g.y_shape, np.nan), storage, channels_last=y_last)
    dx = there(np.full(g.x_shape, np.nan), storage, channels_last=x_last)
    kernel = gpu_ops().pooling(g)
    kernel.forward(there(x, storage, channels_last=x_last), y)
    assert_near(y, naive_average(g, x), storage)
    kernel.backward(there(np.ones(g.y_shape), storage, channels_last=y_last), dx)
    # The transpose of a sum of ones: every top gives all of itself where not padded.
    one = np.zeros(g.x_shape)
    one[0, 0, 3, 4] = 1
    assert abs(here(dx)[0, 0, 3, 4] - naive_average(g, one).sum()) < 0.02


def test_an_index_that_a_mask_of_16_bits_cannot_hold():
    """Place 4095 is 4096 in half16: the gradient must still find the winner."""
    g = PoolGeometry((1, 1, 64, 64), (1, 1, 1, 1), (64, 64), (1, 1), (0, 0), "max")
    x = np.zeros(g.x_shape)
    x[0, 0, 63, 63] = 1
    y, mask, dx = (there(np.zeros(s), HALF) for s in (g.y_shape, g.y_shape, g.x_shape))
    kernel = gpu_ops().pooling(g)
    kernel.forward(there(x, HALF), y, mask)
    kernel.backward(there(np.ones(g.y_shape), HALF), dx, mask)
    assert here(mask).item() == 4096
    np.testing.assert_array_equal(here(dx), x)


def test_nan_never_wins():
    g = PoolGeometry((1, 1, 2, 4), (1, 1, 1, 2), (2, 2), (2, 2), (0, 0), "max")
    x = np.array([[[[np.nan, 1, np.nan, np.nan], [-np.inf, 3, np.nan, np.nan]]]])
    y, mask, dx = (there(np.zeros(s)) for s in (g.y_shape, g.y_shape, g.x_shape))
    kernel = gpu_ops().pooling(g)
    kernel.forward(there(x), y, mask)
    kernel.backward(there(np.ones(g.y_shape)), dx, mask)
    assert here(y).ravel().tolist() == [3, np.finfo(np.float32).min]
    assert here(mask).ravel().tolist() == [5, -1]
    assert here(dx).ravel().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_a_mask_alone_tells_the_winners():
    g = of("overlap", "max")
    x = np.random.default_rng(8).standard_normal(g.x_shape)
    dy = np.random.default_rng(9).standard_normal(g.y_shape)
    _, winners = naive_max(g, x)
    dx = there(np.zeros(g.x_shape))
    kernel = gpu_ops().pooling(g)
    with pytest.raises(BackendError, match="needs a forward"):
        kernel.backward(there(dy), dx)
    for mask in (winners, naive_max(g, -x)[1]):
        kernel.backward(there(dy), dx, there(mask, channels_last=True))
        assert_near(dx, naive_max_gradient(g, mask, dy), FLOAT)


def test_unknown_methods_are_refused():
    with pytest.raises(BackendError, match="median"):
        gpu_ops().pooling(of("overlap", "median"))
