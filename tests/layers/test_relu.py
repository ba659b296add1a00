"""ReLU's fused forward and its gradient at 0."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import build


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.5])
def test_values_and_gradient_with_zero(slope):
    run = build("ReLU", f"relu_param {{ negative_slope: {slope} }}", [(3,)])
    run.bottom[0].data[...] = [-2, 0, 3]
    np.testing.assert_allclose(run.forward()[0], [-2 * slope, 0, 3])
    run.top[0].diff[...] = 1
    np.testing.assert_allclose(run.backward()[0], [slope, slope, 1])


def test_a_skipped_forward_leaves_the_blob_but_backward_runs():
    run = build("ReLU", "", [(3,)], in_place=True)
    run.layer.skip_forward = True
    run.bottom[0].data[...] = [0, 5, -1]
    np.testing.assert_array_equal(run.forward()[0], [0, 5, -1])
    run.top[0].diff[...] = 1
    np.testing.assert_array_equal(run.backward()[0], [0, 1, 0])
