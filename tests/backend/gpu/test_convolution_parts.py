"""Sums of convolutions, and those that blocks share."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.convolution_parts import splits_for
from tests.backend.gpu.storage import FLOAT, assert_near, here, there
from tests.devices import gpu_ops


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
