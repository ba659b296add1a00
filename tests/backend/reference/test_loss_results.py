"""Means of losses and weights of their gradients, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

# (total, places counted), divisor, what is divided by: never less than 1.
CASES = [
    ((7.0, 4.0), None, 4),
    ((7.0, 0.0), None, 1),
    ((7.0, 4.0), 2.0, 2),
    ((7.0, 4.0), 0.0, 1),
    ((7.0, 4.0), 0.5, 1),
]


@pytest.mark.parametrize(("sums", "divisor", "by"), CASES)
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_means_and_weights(kit, sums, divisor, by, factor):
    top, weight = kit.empty(()), np.full(1, np.nan)
    kit.ops.write_mean(np.array(sums), divisor, top, factor)
    kit.assert_close(top, np.array(factor * 7 / by))
    diff = kit.array(np.array(3.0))
    kit.ops.loss_weight(diff, np.array(sums), divisor, weight, factor)
    assert weight.tolist() == [factor * 3 / by]


def test_the_factor_is_1_if_none_is_given(kit):
    top, weight = kit.empty(()), np.full(1, np.nan)
    kit.ops.write_mean(np.array([6.0, 2.0]), None, top)
    kit.ops.loss_weight(kit.array(np.array(2.0)), np.array([6.0, 2.0]), None, weight)
    assert (float(top), float(weight[0])) == (3, 1)
