"""Sums on a GPU: in pieces, the same bits every time, of any storage."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.gpu.storage import (
    BFLOAT,
    FLOAT,
    HALF,
    STEP,
    assert_near,
    here,
    rounded,
    there,
)
from tests.devices import gpu_ops

STORAGES = pytest.mark.parametrize(
    "storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"]
)


@STORAGES
@pytest.mark.parametrize(
    ("shape", "last"),
    [((9, 40, 7, 5), False), ((9, 40, 7, 5), True), ((700, 33), False)],
)
def test_what_a_relu_passes_is_added_up_as_it_is_stored(storage, shape, last):
    """Rounded to 16 bits first: the sums are those of the array that is there."""
    rng = np.random.default_rng(0)
    y, dy = rng.standard_normal((2, *shape))
    y, dy = rounded(y, storage), rounded(dy, storage)
    top = there(dy, storage, channels_last=last)
    sums = there(np.ones(shape[1]))
    seen = there(y, storage, channels_last=last)
    gpu_ops().relu_backward_sums(seen, top, top, 0.3, sums, accumulate=True)
    passed = here(top)
    slope = float(np.float32(0.3))
    want = np.where(y > 0, dy, rounded(dy * slope, storage))
    np.testing.assert_allclose(passed, want, rtol=STEP[storage])
    outer = (0, *range(2, len(shape)))
    np.testing.assert_allclose(here(sums), 1 + passed.sum(outer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "launches"), [(512, 1), (513, 2)])
def test_a_batch_of_vectors_takes_one_launch(rows, launches):
    ops, y = gpu_ops(), there(np.ones((rows, 40)))
    sums = there(np.zeros(40))
    before = ops.device.launches
    ops.relu_backward_sums(y, y, y, 0.0, sums)
    assert ops.device.launches - before == launches
    assert (here(sums) == rows).all()


def test_both_sums_come_of_one_pass():
    x, times = np.random.default_rng(1).standard_normal((2, 6, 5, 11, 13))
    plain, products = there(np.ones(5)), there(np.full(5, np.nan))
    arrays = there(x), there(times)
    device = gpu_ops().device
    gpu_ops().sum_spread(*arrays, 1, (5,), plain, None, accumulate=False)
    before = device.launches
    gpu_ops().sum_spread(*arrays, 1, (5,), plain, products, accumulate=False)
    assert device.launches - before == 3  # and one for each to finish
    assert_near(plain, x.sum((0, 2, 3)), FLOAT)
    assert_near(products, (x * times).sum((0, 2, 3)), FLOAT)


@pytest.mark.parametrize("shape", [(40_000, 2), (3, 2, 20_000)])
def test_pieces_are_added_in_one_order(shape):
    x = np.random.default_rng(2).standard_normal(shape)
    results = []
    for _ in range(2):
        sums = there(np.full(2, np.nan))
        gpu_ops().sum_outer(there(x), 1, (2,), sums)
        results.append(here(sums))
    np.testing.assert_array_equal(*results)
    assert np.abs(results[0] - x.sum((0, *range(2, x.ndim)))).max() < 1e-2


def test_sums_of_nothing():
    empty, sums = there(np.zeros((0, 3))), there(np.ones(3))
    gpu_ops().relu_backward_sums(empty, empty, empty, 0.0, sums, accumulate=True)
    assert here(sums).tolist() == [1, 1, 1]
    gpu_ops().relu_backward_sums(empty, empty, empty, 0.0, sums)
    assert here(sums).tolist() == [0, 0, 0]


@STORAGES
def test_norms_are_in_double(storage):
    x = rounded(np.full(70_000, 0.1), storage)
    assert gpu_ops().asum(there(x, storage)) == pytest.approx(x.sum(), rel=1e-9)
    assert gpu_ops().sumsq(there(x, storage)) == pytest.approx((x**2).sum(), rel=1e-6)
