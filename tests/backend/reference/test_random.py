from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_share_of_ones(kit, probability):
    out = kit.array(np.full((4, 16, 30, 30), 9)).astype(np.uint8)
    kit.ops.bernoulli(np.random.default_rng(3), probability, out)
    assert set(np.unique(out)) <= {0, 1}
    assert out.mean() == pytest.approx(probability, abs=0.01)


def test_same_generator_same_mask_in_every_layout(kit):
    shape = (2, 16, 5, 3)
    out = kit.array(np.zeros(shape)).astype(np.uint8)
    plain = np.zeros(shape, np.uint8)
    kit.ops.bernoulli(np.random.default_rng(3), 0.5, out)
    kit.ops.bernoulli(np.random.default_rng(3), 0.5, plain)
    np.testing.assert_array_equal(out, plain)
    generator = np.random.default_rng(3)
    kit.ops.bernoulli(generator, 0.5, out)
    kit.ops.bernoulli(generator, 0.5, out)
    assert (out != plain).any()
    kit.ops.bernoulli(generator, 0.5, np.zeros((0, 3), np.uint8))
