"""Stochastic pooling in pieces: the same draws and winners as in one."""

from __future__ import annotations

import itertools

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


# x's and y's spatial shape, kernel, stride, pad.
WINDOWS = {
    "overlapping": ((21, 15), (10, 7), 3, 2, 0),
    "every place": ((12, 9), (10, 7), 3, 1, 0),
    "apart": ((20, 14), (7, 5), 2, 3, 0),
    "overhanging": ((20, 14), (10, 7), 3, 2, 0),
    "padded": ((20, 14), (11, 8), 2, 2, 1),
    "more than oneDNN's": ((25, 20), (5, 4), 5, 5, 0),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_all_kinds_of_windows_in_all_layouts(ops, slow, rng, name):
    size, count, kernel, stride, pad = WINDOWS[name]
    shape, top = (3, 16, *size), (3, 16, *count)
    g = PoolGeometry(shape, top, (kernel,) * 2, (stride,) * 2, (pad,) * 2, "stochastic")
    x, dy = rng.random(shape), rng.standard_normal(top)
    want_y, want_dx = unset(top), unset(shape)
    plain = slow.pooling(g)
    plain.forward(stored(x), want_y, rng=np.random.default_rng(5))
    plain.backward(stored(dy), want_dx)
    run = ops.pooling(g)
    for x_last, y_last, dy_last, dx_last in itertools.product((True, False), repeat=4):
        y = unset(top, channels_last=y_last)
        dx = unset(shape, channels_last=dx_last)
        run.forward(stored(x, channels_last=x_last), y, rng=np.random.default_rng(5))
        run.backward(stored(dy, channels_last=dy_last), dx)
        np.testing.assert_array_equal(y, want_y)
        np.testing.assert_allclose(dx, want_dx, rtol=1e-6, atol=1e-6)
