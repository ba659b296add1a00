"""What is particular to products on a GPU: types that differ, captured sums."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.gpu.test_base import get, numbers, put
from tests.devices import gpu_ops


@pytest.mark.parametrize("a", [False, True])
@pytest.mark.parametrize("b", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_transposed_operands(a, b, beta):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((3, 5)), rng.standard_normal((5, 4))
    old = rng.standard_normal((3, 4))
    c = put(old if beta else np.full((3, 4), np.nan))
    one, other = (put(np.ascontiguousarray(x.T if t else x))
                  for x, t in ((left, a), (right, b)))  # fmt: skip
    gpu_ops().gemm(one, other, c, trans_a=a, trans_b=b, alpha=2.0, beta=beta)
    np.testing.assert_allclose(get(c), 2 * left @ right + beta * old, rtol=1e-12)


@pytest.mark.parametrize(("beta", "want"), [(0.0, 0.0), (2.0, 6.0)])
def test_a_sum_over_nothing(beta, want):
    c = put(np.full((2, 3), 3, np.float32))
    empty = gpu_ops().memory.zeros(0, np.float32)
    gpu_ops().gemm(empty.reshape(2, 0), empty.reshape(0, 3), c, beta=beta)
    assert (get(c) == want).all()
    gpu_ops().gemm(empty.reshape(0, 2), c, empty.reshape(0, 3))


def test_parameters_of_32_bits_beside_activations_of_16():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 6)).astype(np.float16)
    w = rng.standard_normal((3, 6)).astype(np.float32)
    y, dw = put(np.zeros((4, 3), np.float16)), put(np.ones((3, 6), np.float32))
    db = put(np.ones(3, np.float32))
    gpu_ops().inner_product(put(x), put(w), None, y)
    want = x.astype(np.float32) @ w.astype(np.float16).astype(np.float32).T
    np.testing.assert_allclose(get(y), want, rtol=2e-3, atol=2e-3)
    dy = get(y).astype(np.float32)
    gpu_ops().inner_product_backward_weights(put(x), y, dw, db, accumulate=True)
    np.testing.assert_allclose(get(dw), 1 + dy.T @ x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(get(db), 1 + dy.sum(0), rtol=1e-5, atol=1e-5)


def test_column_sums_of_more_rows_than_threads():
    x = numbers((700, 33)) % 7
    sums = put(np.full(33, np.nan, np.float32))
    gpu_ops().column_sums(put(x), sums, accumulate=False)
    np.testing.assert_array_equal(get(sums), x.sum(0))
