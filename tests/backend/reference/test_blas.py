from __future__ import annotations

import numpy as np
import pytest

from tests.backend.conftest import caffe_close

SIZES = [(1, 1, 1), (3, 5, 4), (16, 32, 64), (33, 17, 65), (64, 10, 500), (0, 3, 4)]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, 0.0), (-0.5, 1.5)])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_gemm(kit, rng, size, trans_a, trans_b, alpha, beta):
    m, n, k = size
    a, b, c = (
        rng.standard_normal(s)
        for s in ((k, m) if trans_a else (m, k), (n, k) if trans_b else (k, n), (m, n))
    )
    out = kit.param(c) if beta else kit.empty_param((m, n))
    kit.ops.gemm(
        kit.param(a), kit.param(b), out,
        trans_a=trans_a, trans_b=trans_b, alpha=alpha, beta=beta,
    )  # fmt: skip
    product = (a.T if trans_a else a) @ (b.T if trans_b else b)
    kit.assert_close(out, alpha * product + beta * c, loose=8)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_inner_product(kit, rng, size, bias, transpose):
    m, n, k = size
    x, dy, b = rng.standard_normal((m, k)), rng.standard_normal((m, n)), rng.random(n)
    w = rng.standard_normal((k, n) if transpose else (n, k))
    matrix = w if transpose else w.T
    y = kit.empty_param((m, n))
    kit.ops.inner_product(
        kit.param(x), kit.param(w), kit.param(b) if bias else None, y,
        transpose=transpose,
    )  # fmt: skip
    kit.assert_close(y, x @ matrix + (b if bias else 0), loose=8)
    kit.ops.inner_product(
        kit.param(x), kit.param(w), kit.param(b) if bias else None, y,
        transpose=transpose, relu=0.25,
    )  # fmt: skip
    made = x @ matrix + (b if bias else 0)
    kit.assert_close(y, np.where(made > 0, made, 0.25 * made), loose=8)
    dx = kit.empty_param((m, k))
    kit.ops.inner_product_backward_data(
        kit.param(dy), kit.param(w), dx, transpose=transpose
    )
    kit.assert_close(dx, dy @ matrix.T, loose=8)
    want = x.T @ dy if transpose else dy.T @ x
    for accumulate in (False, True):
        dw = kit.param(w) if accumulate else kit.empty_param(w.shape)
        db = kit.param(b) if accumulate else kit.empty_param(b.shape)
        kit.ops.inner_product_backward_weights(
            kit.param(x), kit.param(dy), dw, db if bias else None,
            transpose=transpose, accumulate=accumulate,
        )  # fmt: skip
        kit.assert_close(dw, want + (w if accumulate else 0), loose=8)
        if bias:
            kit.assert_close(db, dy.sum(0) + (b if accumulate else 0), loose=8)


@pytest.mark.parametrize("name", ["ip", "ip_transpose"])
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    turned = name == "ip_transpose"
    w, b = kit.param(case["param/0"]), kit.param(case["param/1"])
    x, dy = kit.param(case["in/x"].reshape(2, -1)), kit.param(case["out_diff/y"])
    y, dx = kit.empty_param(dy.shape), kit.empty_param(x.shape)
    dw, db = kit.empty_param(w.shape), kit.empty_param(b.shape)
    kit.ops.inner_product(x, w, b, y, transpose=turned)
    kit.ops.inner_product_backward_data(dy, w, dx, transpose=turned)
    kit.ops.inner_product_backward_weights(x, dy, dw, db, transpose=turned)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"].reshape(2, -1))
    assert caffe_close(dw, case["param_diff/0"])
    assert caffe_close(db, case["param_diff/1"])
