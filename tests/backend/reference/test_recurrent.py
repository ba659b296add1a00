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


def case(kind, shape, rng):
    """Arguments of forward, the gradient of h, and weights' gradients so far."""
    steps, n, outputs = shape
    inputs = outputs * (4 if kind == "lstm" else 1)
    return {
        "z": rng.standard_normal((steps, n, inputs)),
        "static": rng.standard_normal((n, inputs)),
        "w": rng.standard_normal((inputs, outputs)) / max(outputs, 1) ** 0.5,
        "cont": rng.choice([0, 1, 1, 0.5], (steps, n)),
        "start": [rng.standard_normal((n, outputs)) for _ in range(STATES[kind])],
        "dh": rng.standard_normal((steps, n, outputs)),
        "dw": rng.standard_normal((inputs, outputs)),
    }


def run(kernel, values, dtype, *, static, accumulate):
    """What both ways write; backward twice, which must not matter."""
    a = {k: np.array(v, dtype) for k, v in values.items() if k != "start"}
    start = [np.array(s, dtype) for s in values["start"]]
    h = np.full(a["dh"].shape, np.nan, dtype)
    added = a["static"] if static else None
    kernel.forward(a["z"], added, a["w"], a["cont"], start, h, start)
    dz = np.full(a["z"].shape, np.nan, dtype)
    kernel.backward(h, a["w"], a["cont"], a["dh"], np.empty_like(dz), None)
    kernel.backward(h, a["w"], a["cont"], a["dh"], dz, a["dw"], accumulate=accumulate)
    return [h, *start, dz, a["dw"]]


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 5), (2, 9, 33), (2, 0, 3)])
@pytest.mark.parametrize("kind", STATES)
def test_sequences_of_every_backend(kit, rng, kind, shape):
    values = case(kind, shape, rng)
    kernel = getattr(kit.ops, kind)(*shape, kit.dtype)
    plain = getattr(ReferenceOps(), kind)(*shape, np.float64)
    for static, accumulate in ((True, True), (False, False)):
        how = {"static": static, "accumulate": accumulate}
        got = run(kernel, values, kit.dtype, **how)
        for a, b in zip(got, run(plain, values, np.float64, **how), strict=True):
            kit.assert_close(a, b, loose=10)


def test_a_plain_sequence_in_place(kit, rng):
    values = case("rnn", (3, 2, 4), rng)
    kernel = kit.ops.rnn(3, 2, 4, kit.dtype)
    want = run(kernel, values, kit.dtype, static=False, accumulate=False)
    h, dz, w, cont = (kit.param(values[k]) for k in ("z", "dh", "w", "cont"))
    start = [kit.param(values["start"][0])]
    kernel.forward(h, None, w, cont, start, h, start)
    kernel.backward(h, w, cont, dz, dz, None)
    for a, b in zip((h, start[0], dz), want, strict=False):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(6, 5), (0, 5), (3, 700)])
def test_one_step_of_an_lstm(kit, rng, shape):
    c_prev, dc, dh = rng.standard_normal((3, *shape))
    x = rng.standard_normal((shape[0], 4 * shape[1]))
    cont = np.resize([0, 1, 0.5], shape[0])
    found = []
    for ops, dtype in ((ReferenceOps(), np.float64), (kit.ops, kit.dtype)):
        a = [np.array(v, dtype) for v in (c_prev, x, cont, dc, dh)]
        c, h, dc_prev, alone = (np.full(shape, np.nan, dtype) for _ in range(4))
        dx = np.full(x.shape, np.nan, dtype)
        ops.lstm_unit(*a[:3], c, h)
        ops.lstm_unit_backward(*a[:3], c, *a[3:], dc_prev, dx)
        ops.lstm_unit_backward(*a[:3], c, *a[3:], alone, None)
        np.testing.assert_array_equal(alone, dc_prev)
        found.append([c, h, dc_prev, dx])
    for want, got in zip(*found, strict=True):
        kit.assert_close(got, want, loose=4)
