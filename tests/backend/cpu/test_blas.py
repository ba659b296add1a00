from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near


def matrix(rng, rows, columns, kind="plain"):
    """float32 values in memory of some kind."""
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    if kind == "turned":
        return np.asfortranarray(values)
    if kind == "wide":
        out = np.full((rows, columns + 5), np.nan, np.float32)[:, 2 : 2 + columns]
    elif kind == "sparse":
        out = np.full((rows, 3 * columns), np.nan, np.float32)[:, ::3]
    else:
        return values
    out[...] = values
    return out


KINDS = ["plain", "turned", "wide", "sparse"]


@pytest.mark.parametrize("kinds", [*itertools.product(KINDS, repeat=3)])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, True), (True, False)])
def test_gemm_of_strided_matrices(ops, rng, kinds, trans_a, trans_b):
    m, n, k = 17, 9, 33
    a = matrix(rng, *((k, m) if trans_a else (m, k)), kinds[0])
    b = matrix(rng, *((n, k) if trans_b else (k, n)), kinds[1])
    c = matrix(rng, m, n, kinds[2])
    product = (a.T if trans_a else a).astype(float) @ (b.T if trans_b else b)
    for beta in (0.0, 1.0, 0.5):
        out = matrix(rng, m, n, kinds[2])
        out[...] = c if beta else np.nan
        ops.gemm(a, b, out, trans_a=trans_a, trans_b=trans_b, alpha=2.0, beta=beta)
        assert_near(out, 2 * product + beta * c)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 8, 5), (8, 1, 5), (8, 5, 1)])
def test_gemm_of_single_rows_and_columns(ops, rng, size):
    """The stride of an axis of length 1 is any number."""
    m, n, k = size
    a, b = matrix(rng, m, k), matrix(rng, k, n)
    if m == 1:
        a = a[0][None]
    if k == 1:
        b = b[0][None]
    out = np.full((m, n), np.nan, np.float32)
    ops.gemm(a, b, out)
    assert_near(out, a.astype(float) @ b)
    out[...] = np.nan
    ops.gemm(np.ascontiguousarray(a.T), b, out, trans_a=True)
    assert_near(out, a.astype(float) @ b)


def test_nothing_to_sum_is_zero(ops):
    out = np.full((3, 4), np.nan, np.float32)
    ops.gemm(np.ones((3, 0), np.float32), np.ones((0, 4), np.float32), out)
    assert not out.any()


def test_gemm_in_double(ops, rng):
    a, b = rng.standard_normal((5, 7)), rng.standard_normal((7, 3))
    out = np.empty((5, 3))
    ops.gemm(a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-14)


# (M, N, K) of AlexNet's, LeNet's and GoogLeNet's inner products
SIZES = [
    (2, 512, 1152),
    (16, 500, 800),
    (64, 10, 500),
    (1, 1000, 1024),
    (100, 64, 1024),
]


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_inner_products_of_published_nets(ops, rng, size, transpose):
    m, n, k = size
    x, dy = matrix(rng, m, k), matrix(rng, m, n)
    w = matrix(rng, *((k, n) if transpose else (n, k)))
    b = rng.standard_normal(n).astype(np.float32)
    turned = (w if transpose else w.T).astype(float)
    for bias in (b, None):
        y = np.full((m, n), np.nan, np.float32)
        ops.inner_product(x, w, bias, y, transpose=transpose)
        assert_near(y, x @ turned + (0 if bias is None else b), 2)
    dx = np.full((m, k), np.nan, np.float32)
    ops.inner_product_backward_data(dy, w, dx, transpose=transpose)
    assert_near(dx, dy @ turned.T, 2)
    want = (x.astype(float).T @ dy) if transpose else (dy.astype(float).T @ x)
    dw, db = np.full_like(w, np.nan), np.full_like(b, np.nan)
    for times in (1, 2, 3):
        ops.inner_product_backward_weights(
            x, dy, dw, db, transpose=transpose, accumulate=times > 1
        )
        assert_near(dw, times * want, 2)
        assert_near(db, times * dy.sum(0, dtype=float), 2)


def test_batches_of_other_sizes_in_turn(ops, rng):
    w, b = matrix(rng, 7, 12), rng.standard_normal(7).astype(np.float32)
    for m in (4, 9, 1, 4):
        x, y = matrix(rng, m, 12), np.full((m, 7), np.nan, np.float32)
        ops.inner_product(x, w, b, y)
        assert_near(y, x @ w.T.astype(float) + b)


def test_weights_that_change_between_calls(ops, rng):
    x, w = matrix(rng, 4, 12), matrix(rng, 7, 12)
    y = np.empty((4, 7), np.float32)
    for factor in (1, 2, -3):
        ops.inner_product(x, factor * w, None, y)
        assert_near(y, factor * (x @ w.T.astype(float)))


@pytest.mark.parametrize("kind", ["turned", "wide", "sparse"])
@pytest.mark.parametrize("which", ["x", "w", "b", "y"])
def test_inner_product_of_strided_arrays(ops, rng, which, kind):
    def array(rows, columns, name):
        return matrix(rng, rows, columns, kind if name == which else "plain")

    x, w, y = array(4, 12, "x"), array(7, 12, "w"), array(4, 7, "y")
    b = rng.standard_normal((7, 2)).astype(np.float32)[:, 0]
    bias = b if which == "b" else b.copy()
    ops.inner_product(x, w, bias, y)
    assert_near(y, x @ w.T.astype(float) + b)
    dw, db = array(7, 12, "w") * 0 + 1, np.ones(7, np.float32)
    ops.inner_product_backward_weights(x, y, dw, db, accumulate=True)
    assert_near(dw, 1 + y.T.astype(float) @ x)
    assert_near(db, 1 + y.sum(0, dtype=float))
