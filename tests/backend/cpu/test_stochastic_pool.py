"""Stochastic pooling in pieces: the same draws and winners as in one."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from tests.backend.cpu.conftest import stored, unset


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 30, 30), (5, 33, 40, 20), (3, 1, 6, 6)])
def test_pieces_change_nothing(ops, slow, rng, shape, channels_last):
    half = (shape[2] // 2, shape[3] // 2)
    g = PoolGeometry(shape, (*shape[:2], *half), (2, 2), (2, 2), (0, 0), "stochastic")
    x, dy = rng.random(shape), rng.standard_normal(g.y_shape)
    found = []
    for backend in (ops, slow):
        kernel = backend.pooling(g)
        for draw in (np.random.default_rng(5), None):
            y = unset(g.y_shape, channels_last=channels_last)
            dx = unset(shape, channels_last=channels_last)
            kernel.forward(stored(x, channels_last=channels_last), y, rng=draw)
            kernel.backward(stored(dy, channels_last=channels_last), dx)
            found += [y, dx]
    for got, want in zip(found[:4], found[4:], strict=True):
        np.testing.assert_array_equal(got, want)
