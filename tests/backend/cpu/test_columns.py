"""im2col in blocks of rows, and by plain columns: the same as in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ColumnGeometry
from tests.backend.cpu.conftest import assert_near, stored, unset


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(1, 40, 30, 30), (3, 20, 40, 36), (3, 3, 61, 50)])
def test_blocks_change_nothing(ops, slow, rng, shape, channels_last):
    g = ColumnGeometry((3, 5), (2, 1), (1, 2), (1, 1))
    split = (*shape[:2], *g.kernel, *g.spatial(shape[2:]))
    top = (shape[0], shape[1] * 15, *split[4:])
    x, dy = rng.standard_normal(shape), rng.standard_normal(top)
    y = unset(top, channels_last=channels_last)
    dx = unset(shape, channels_last=channels_last)
    ops.im2col(stored(x, channels_last=channels_last), y.reshape(split), g)
    ops.col2im(stored(dy, channels_last=channels_last).reshape(split), dx, g)
    want, back = np.empty(split), np.empty(shape)
    slow.im2col(x, want, g)
    slow.col2im(dy.reshape(split), back, g)
    np.testing.assert_array_equal(y.reshape(split), want.astype(np.float32))
    assert_near(dx, back)
