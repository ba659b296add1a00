"""Bias, ReLU and sums of convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.convolution_parts import splits_for
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, assert_near, here, there
from tests.devices import gpu_ops


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_relu_in_place(storage, last, slope, biased):
    # Whole numbers: exact in 16 bits.
    y = np.random.default_rng(5).integers(-8, 8, (2, 5, 3, 7)) * 4.0
    b = np.arange(-2.0, 3.0) * 4
    top = there(y, storage, channels_last=last)
    gpu_ops().add_bias(top, there(b) if biased else None, slope)
    want = y + b[:, None, None] if biased else y
    if slope is not None:
        want = np.where(want > 0, want, slope * want)
    assert np.array_equal(here(top), want)


def test_gaps_are_left_alone():
    whole = there(np.ones((2, 3, 4, 6)))
    gpu_ops().add_bias(whole[..., :4], there(np.array([1.0, 2, 3])), None)
    want = np.ones((2, 3, 4, 6))
    want[..., :4] += np.array([1, 2, 3])[:, None, None]
    assert np.array_equal(here(whole), want)


@pytest.mark.parametrize("accumulate", [False, True])
def test_shares_are_added_up(accumulate):
    parts = np.random.default_rng(6).standard_normal((5, 300))
    sums = there(np.ones(300) if accumulate else np.full(300, np.nan))
    gpu_ops().add_splits(there(parts), sums, FLOAT, 5, accumulate=accumulate)
    assert_near(sums, parts.sum(axis=0) + accumulate, FLOAT)


def test_few_blocks_share_their_sums():
    assert splits_for(1, 1 << 20) > splits_for(100, 1 << 20) > 1
    assert splits_for(1000, 1 << 20) == 1
    assert splits_for(1, 10) == 1


@pytest.mark.parametrize("last", [False, True])
def test_sums_in_shares_are_the_same_every_time(last):
    dy = np.random.default_rng(4).standard_normal((40, 3, 14, 14)).astype(np.float32)
    sums = []
    for _ in range(2):
        db = there(np.ones(3))
        top = there(dy, channels_last=last)
        gpu_ops().bias_gradient(top, db, accumulate=True)
        sums.append(here(db))
    np.testing.assert_array_equal(*sums)
    want = 1 + dy.astype(np.float64).sum((0, 2, 3))
    np.testing.assert_allclose(sums[0], want, atol=1e-3)
