"""Fast sequences beside the plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near

STATES = {"lstm": 2, "rnn": 1}
# steps, streams, outputs
SHAPES = [(1, 1, 1), (5, 3, 7), (4, 16, 32), (7, 1, 48), (3, 33, 5)]


def case(kind, shape, rng):
    """Arguments of forward, and the gradient of h, in float64."""
    steps, n, outputs = shape
    inputs = outputs * (4 if kind == "lstm" else 1)
    return {
        "z": 2 * rng.standard_normal((steps, n, inputs)),
        "static": rng.standard_normal((n, inputs)),
        "w": rng.standard_normal((inputs, outputs)) / outputs**0.5,
        "cont": rng.choice([0, 1, 1, 0.5], (steps, n)),
        "start": [rng.standard_normal((n, outputs)) for _ in range(STATES[kind])],
        "dh": rng.standard_normal((steps, n, outputs)),
        "dw": rng.standard_normal((inputs, outputs)),
    }


def run(kernel, values, dtype, *, accumulate, static=True):
    """What both ways write; backward twice, which must not matter."""
    a = {k: v.astype(dtype) for k, v in values.items() if k != "start"}
    start = [s.astype(dtype) for s in values["start"]]
    h = np.full_like(a["dh"], np.nan)
    added = a["static"] if static else None
    kernel.forward(a["z"], added, a["w"], a["cont"], start, h, start)
    dz = np.full_like(a["z"], np.nan)
    first = h, a["w"], a["cont"], a["dh"]
    kernel.backward(*first, np.empty_like(dz), None)
    kernel.backward(*first, dz, a["dw"], accumulate=accumulate)
    return [h, *start, dz, a["dw"]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", STATES)
def test_sequences(ops, slow, rng, kind, shape):
    values = case(kind, shape, rng)
    kernel = getattr(ops, kind)(*shape, np.float32)
    for accumulate in (False, True):
        plain = getattr(slow, kind)(*shape, np.float64)
        want = run(plain, values, np.float64, accumulate=accumulate)
        got = run(kernel, values, np.float32, accumulate=accumulate)
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, 4)


@pytest.mark.parametrize("kind", STATES)
def test_without_static_input_and_with_other_weights(ops, slow, rng, kind):
    shape = (4, 5, 6)
    kernel = getattr(ops, kind)(*shape, np.float32)
    for _ in range(2):
        values = case(kind, shape, rng)
        plain = getattr(slow, kind)(*shape, np.float64)
        want = run(plain, values, np.float64, accumulate=False, static=False)
        got = run(kernel, values, np.float32, accumulate=False, static=False)
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, 4)


@pytest.mark.parametrize("kind", STATES)
def test_far_out_inputs_saturate(ops, rng, kind):
    values = case(kind, (3, 2, 4), rng)
    values["z"] *= 1e4
    kernel = getattr(ops, kind)(3, 2, 4, np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = run(kernel, values, np.float32, accumulate=False)
    assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("shape", [(6, 5), (6000, 6), (0, 5), (6, 5000)])
def test_one_step_of_an_lstm(ops, slow, rng, shape):
    c_prev, dc, dh = rng.standard_normal((3, *shape))
    x = rng.standard_normal((shape[0], 4 * shape[1]))
    cont = np.resize([0, 1, 0.5, 1, 0, 1.0], shape[0])
    found = []
    for backend, dtype in ((slow, np.float64), (ops, np.float32)):
        a = [v.astype(dtype) for v in (c_prev, x, cont, dc, dh)]
        c, h, dc_prev, alone = (np.full_like(a[0], np.nan) for _ in range(4))
        dx = np.full_like(a[1], np.nan)
        backend.lstm_unit(*a[:3], c, h)
        backend.lstm_unit_backward(*a[:3], c, *a[3:], dc_prev, dx)
        backend.lstm_unit_backward(*a[:3], c, *a[3:], alone, None)
        np.testing.assert_array_equal(alone, dc_prev)
        again = np.empty_like(dx)
        backend.lstm_unit_backward(*a[:3], c, *a[3:], None, again)
        np.testing.assert_array_equal(again, dx)
        found.append([c, h, dc_prev, dx])
    for want, got in zip(*found, strict=True):
        assert_near(got, want, 2)


def test_double_precision_and_no_streams_go_to_the_plain_kernels(ops, slow):
    for kind in STATES:
        plain = type(getattr(slow, kind)(1, 1, 1, np.float32))
        assert isinstance(getattr(ops, kind)(2, 3, 4, np.float64), plain)
        assert isinstance(getattr(ops, kind)(2, 0, 4, np.float32), plain)
