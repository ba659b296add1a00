from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored

# Each with its settings, as (x, y) runs.
FORWARD = {
    "absolute": (),
    "bnll": (),
    "clip": (-0.5, 1.0),
    "elu": (0.7,),
    "exponential": (0.3, 2.0),
    "logarithm": (0.1, 3.0, 1.5),
    "swish": (1.2,),
    "threshold": (0.2,),
}


@pytest.mark.parametrize("lay_x", [stored, inside])
@pytest.mark.parametrize("name", FORWARD)
def test_large_arrays_and_slices_are_as_the_reference(ops, slow, rng, name, lay_x):
    """Blocks, threads and primitives against one pass of plain NumPy."""
    x = rng.standard_normal((3, 64, 40, 41))
    y, want = stored(np.full(x.shape, np.nan)), np.empty(x.shape)
    getattr(ops, name)(lay_x(x), y, *FORWARD[name])
    getattr(slow, name)(x.astype(np.float32).astype(np.float64), want, *FORWARD[name])
    assert_near(y, want)
