"""Reduction: every operation, axis and coefficient beside the formula."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import ShapeError
from tests.layers.harness import build

OPERATIONS = {
    "SUM": (lambda x: x, np.ones_like),
    "ASUM": (np.abs, np.sign),
    "SUMSQ": (np.square, lambda x: 2 * x),
    "MEAN": (lambda x: x, np.ones_like),
}


@pytest.mark.parametrize("coeff", [None, -1.5])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("operation", [None, *OPERATIONS])
@pytest.mark.parametrize("last", [False, True])
def test_formula(operation, axis, coeff, last, cpu):
    text = "" if operation is None else f"operation: {operation} "
    text += "" if axis is None else f"axis: {axis} "
    text += "" if coeff is None else f"coeff: {coeff}"
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    x[0, 0, 0, 0] = 0
    start = (axis or 0) % 4
    summand, slope = OPERATIONS[operation or "SUM"]
    factor = 1 if coeff is None else coeff
    if operation == "MEAN":
        factor /= np.prod(x.shape[start:])
    want = factor * summand(x).sum(axis=tuple(range(start, 4)))
    dy = np.random.default_rng(2).standard_normal(want.shape)
    dx = factor * slope(x) * dy.reshape(*dy.shape, *(1,) * (4 - start))
    for ops in (None, cpu):
        param = f"reduction_param {{ {text} }}"
        run = build("Reduction", param, [x.shape], ops=ops, channels_last=last)
        run.bottom[0].data[...] = x
        assert run.top[0].shape == x.shape[:start]
        np.testing.assert_allclose(run.forward()[0], want, rtol=1e-5, atol=1e-5)
        run.set_top_diffs([dy])
        np.testing.assert_allclose(run.backward()[0], dx, rtol=1e-5, atol=1e-6)


def test_long_rows_and_many_rows():
    x = np.random.default_rng(3).standard_normal((3, 200_000))
    for axis in (0, 1):
        run = build("Reduction", f"reduction_param {{ axis: {axis} }}", [x.shape])
        run.bottom[0].data[...] = x
        want = x.sum(axis=tuple(range(axis, 2)))
        np.testing.assert_allclose(run.forward()[0], want, rtol=1e-4, atol=0.01)
    run = build("Reduction", "reduction_param { axis: 1 }", [(200_000, 3)])
    run.bottom[0].data[...] = x.T.copy().reshape(200_000, 3)
    np.testing.assert_allclose(run.forward()[0], x.sum(0), rtol=1e-4, atol=1e-5)


def test_nothing_to_sum_is_0():
    run = build("Reduction", "reduction_param { axis: 1 operation: MEAN }", [(2, 0)])
    assert run.forward()[0].tolist() == [0, 0]


def test_there_must_be_such_an_axis():
    with pytest.raises(ShapeError, match="axis 2"):
        build("Reduction", "reduction_param { axis: 2 }", [(2, 3)])


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_large_ones_are_shared_by_threads(operation, cpu):
    x = np.random.default_rng(1).standard_normal((3, 70, 50, 60)).astype(np.float32)
    param = f"reduction_param {{ operation: {operation} axis: 1 }}"
    run = build("Reduction", param, [x.shape], ops=cpu, channels_last=True)
    run.bottom[0].data[...] = x
    want = OPERATIONS[operation][0](x).sum((1, 2, 3), np.float64)
    want /= x[0].size if operation == "MEAN" else 1
    np.testing.assert_allclose(run.forward()[0], want, rtol=1e-4, atol=1e-3)
