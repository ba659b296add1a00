"""The plain sequences against their formulas and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.reference.recurrent import gates_of
from tests.gradcheck import numeric_gradient

T, N, H = 3, 2, 2
STATES = {"lstm": 2, "rnn": 1}


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(kernel, z, static, w, cont, start):
    h, last = np.empty((T, N, H)), [np.empty((N, H)) for _ in start]
    kernel.forward(z.copy(), static, w, cont, start, h, last)
    return h, last


def make(kind, rng):
    inputs = H * (4 if kind == "lstm" else 1)
    z, static = rng.standard_normal((T, N, inputs)), rng.standard_normal((N, inputs))
    w, cont = rng.standard_normal((inputs, H)), np.array([[1, 0], [1, 1], [0, 1.0]])
    start = [rng.standard_normal((N, H)) for _ in range(STATES[kind])]
    kernel = getattr(ReferenceOps(), kind)(T, N, H, np.float64)
    return kernel, z, static, w, cont, start


def test_lstm_goes_by_its_formulas(rng):
    kernel, z, static, w, cont, start = make("lstm", rng)
    found, last = forward(kernel, z, static, w, cont, start)
    h, c = start
    for t in range(T):
        keep = cont[t][:, None]
        i, f, o, g = gates_of(z[t] + static + (keep * h) @ w.T)
        c = keep * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(found[t], h, rtol=1e-12)
    np.testing.assert_allclose(last, [h, c], rtol=1e-12)


def test_rnn_goes_by_its_formula_in_place(rng):
    kernel, z, static, w, cont, (h,) = make("rnn", rng)
    found = z.copy()
    kernel.forward(found, static, w, cont, [h], found, [np.empty_like(h)])
    for t in range(T):
        h = np.tanh(z[t] + static + (cont[t][:, None] * h) @ w.T)
        np.testing.assert_allclose(found[t], h, rtol=1e-12)


@pytest.mark.parametrize("kind", STATES)
def test_gradients(kind, rng):
    kernel, z, static, w, cont, start = make(kind, rng)
    dh = rng.standard_normal((T, N, H))

    def loss_of_z(z):
        return float((dh * forward(kernel, z, static, w, cont, start)[0]).sum())

    def loss_of_w(w):
        return float((dh * forward(kernel, z, static, w, cont, start)[0]).sum())

    want_z, want_w = numeric_gradient(loss_of_z, z), numeric_gradient(loss_of_w, w)
    h, _ = forward(kernel, z, static, w, cont, start)
    dz, dw = np.empty_like(z), np.ones_like(w)
    kernel.backward(h, w, cont, dh, dz, dw, accumulate=True)
    np.testing.assert_allclose(dz, want_z, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(dw - 1, want_w, rtol=1e-5, atol=1e-8)
    kernel.backward(h, w, cont, dh, dz, dw)
    np.testing.assert_allclose(dw, want_w, rtol=1e-5, atol=1e-8)


def test_a_shut_gate_forgets_anything():
    ops, c, h = ReferenceOps(), np.empty((1, 1)), np.empty((1, 1))
    x = np.array([[0, np.inf, 0, 1.0]])
    ops.lstm_unit(np.ones((1, 1)), x, np.zeros(1), c, h)
    np.testing.assert_allclose(c, 0.5 * np.tanh(1))
