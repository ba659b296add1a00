"""Decaying sums of batches' moments, on every backend."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("channels", [1, 3, 1000])
def test_two_batches(kit, rng, channels):
    total_mean, total_var = kit.param(np.zeros(channels)), kit.param(np.zeros(channels))
    weight, keep, unbiased = kit.param([0.0]), 0.9, 1.25
    means, variances = rng.standard_normal((2, channels)), rng.random((2, channels))
    for mean, var in zip(means, variances, strict=True):
        kit.ops.store_moments(
            kit.param(mean), kit.param(var), total_mean, total_var, weight, keep,
            unbiased,
        )  # fmt: skip
    kit.assert_close(weight, [keep + 1])
    kit.assert_close(total_mean, keep * means[0] + means[1])
    kit.assert_close(total_var, unbiased * (keep * variances[0] + variances[1]))
    mean, var = kit.empty_param(channels), kit.empty_param(channels)
    kit.ops.load_moments(total_mean, total_var, weight, mean, var)
    kit.assert_close(mean, (keep * means[0] + means[1]) / (keep + 1))
    kit.assert_close(var, unbiased * (keep * variances[0] + variances[1]) / (keep + 1))


def test_no_batch_yet(kit):
    zeros, mean, var = kit.param(np.zeros(4)), kit.empty_param(4), kit.empty_param(4)
    kit.ops.load_moments(zeros, zeros, kit.param([0.0]), mean, var)
    assert mean.tolist() == var.tolist() == [0, 0, 0, 0]
