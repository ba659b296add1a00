from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.lstm_unit import DnnlLstmUnit
from tests.backend.cpu.conftest import assert_near

ROWS, CELLS = 700, 96  # several pieces, the last one shorter


def values(rng, cont):
    c_prev, dc, dh = rng.standard_normal((3, ROWS, CELLS))
    x = rng.standard_normal((ROWS, 4 * CELLS))
    return c_prev, x, np.resize(cont, ROWS), dc, dh


def run(backend, given, dtype, make=np.array):
    c_prev, x, cont, dc, dh = (make(v.astype(dtype)) for v in given)
    c, h, dc_prev = (make(np.full(c_prev.shape, np.nan, dtype)) for _ in range(3))
    dx = make(np.full(x.shape, np.nan, dtype))
    backend.lstm_unit(c_prev, x, cont, c, h)
    backend.lstm_unit_backward(c_prev, x, cont, c, dc, dh, dc_prev, dx)
    return c, h, dc_prev, dx


@pytest.mark.parametrize("cont", [[1.0], [0, 1, 0.5]])
def test_agrees_with_the_reference(ops, slow, rng, cont):
    given = values(rng, cont)
    want = run(slow, given, np.float64)
    for _ in range(2):
        for a, b in zip(run(ops, given, np.float32), want, strict=True):
            assert_near(a, b, 2)


def test_arrays_with_gaps_go_another_way_to_the_same_numbers(ops, rng):
    def apart(array):
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        part = wide[..., ::2]
        part[...] = array
        return part

    given = values(rng, [0, 1.0])
    want = run(ops, given, np.float32)
    for a, b in zip(run(ops, given, np.float32, apart), want, strict=True):
        assert_near(a, b)


def test_saturates_without_overflow(ops, rng):
    given = list(values(rng, [1.0]))
    given[1] *= 1e4
    with np.errstate(all="raise", under="ignore"):
        assert all(np.isfinite(a).all() for a in run(ops, given, np.float32))


def test_what_it_takes():
    good = np.zeros((2, 3), np.float32)
    takes = DnnlLstmUnit.takes
    assert takes(good, None)
    assert not takes(good, good.astype(float))
    assert not takes(good[:, ::2])
    assert not takes(good[:0])
