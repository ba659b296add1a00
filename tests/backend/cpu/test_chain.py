"""Several elementwise steps as one primitive."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.chain import each, each_row, of, one
from poseidon_caffe.backend.cpu.dnnl import Alg


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((3, 6 * 35)).astype(np.float32)


def number(value):
    return np.full(1, value, np.float32)


def test_steps_follow_each_other(ops, vectors):
    x, a, b = vectors
    y = np.empty_like(x)
    steps = (each(Alg.SUB), of(Alg.LINEAR, 2, 1), of(Alg.SQUARE), one(Alg.MUL))
    ops._chain(x.size, *steps, each(Alg.ADD))(x, a, number(0.5), b, y)
    np.testing.assert_allclose(y, 0.5 * (2 * (x - a) + 1) ** 2 + b, rtol=1e-5)


@pytest.mark.parametrize(("alg", "compare"), [(Alg.GE, np.greater_equal),
                                              (Alg.GT, np.greater)])  # fmt: skip
def test_comparisons_give_one_or_zero(ops, vectors, alg, compare):
    x, a, b = vectors
    a[::3] = x[::3]
    y = np.empty_like(x)
    ops._chain(x.size, each(alg), each(Alg.MUL))(x, a, b, y)
    np.testing.assert_array_equal(y, compare(x, a) * b)


@pytest.mark.parametrize("rows", [1, 6, 35])
def test_a_number_for_each_row(ops, vectors, rows):
    x, a, b = vectors
    factor, y = b[:rows].copy(), np.empty_like(x)
    run = ops._chain(x.size, each(Alg.SUB), each_row(Alg.MUL), rows=rows)
    run(x, a, factor, y)
    want = (x - a).reshape(rows, -1) * factor[:, None]
    np.testing.assert_array_equal(y, want.reshape(-1))


def test_operands_may_be_bytes_and_the_result_an_operand(ops, vectors):
    x, a, _ = vectors
    mask = np.arange(x.size, dtype=np.uint8) % 2
    want = a + x * mask
    ops._chain(x.size, each(Alg.MUL, "uint8"), each(Alg.ADD))(x, mask, a, a)
    np.testing.assert_array_equal(a, want)


def test_each_is_made_once_for_a_thread(ops):
    def make():
        return ops._chain(77, one(Alg.MUL), of(Alg.LINEAR, 1, 2))

    assert make() is make()
    assert make() is not ops._chain(77, one(Alg.MUL), of(Alg.LINEAR, 1, 3))
    found = []
    other = threading.Thread(target=lambda: found.append(make()))
    other.start()
    other.join()
    assert found[0] is not make()
