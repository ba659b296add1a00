"""The rules against their formulas in float64, on whole arrays and in pieces."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from poseidon_caffe.errors import SolverError
from poseidon_caffe.schema.upgrade import parse_solver
from poseidon_caffe.solver.rules import SOLVER_TYPES, make_rule
from poseidon_caffe.types import UpdateStep

SETTINGS = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "delta: 1e-6",
    "RMSProp": "rms_decay: 0.95 delta: 1e-6",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9 momentum2: 0.999",
}
# Settings are stored as float32.
M, M2, D = (float(np.float32(x)) for x in (0.9, 0.999, 0.95))
DELTA, TINY = (float(np.float32(x)) for x in (1e-6, 1e-8))


def rule_of(kind):
    return make_rule(parse_solver(f'type: "{kind}" {SETTINGS[kind]}'))


def expected(kind, g, history, rate, t):
    """(update, new history) by Caffe's formulas, nothing in place."""
    if kind == "SGD":
        h = M * history[0] + rate * g
        return h, [h]
    if kind == "Nesterov":
        h = M * history[0] + rate * g
        return (1 + M) * h - M * history[0], [h]
    if kind == "AdaGrad":
        h = history[0] + g**2
        return rate * g / (np.sqrt(h) + DELTA), [h]
    if kind == "RMSProp":
        h = D * history[0] + (1 - D) * g**2
        return rate * g / (np.sqrt(h) + DELTA), [h]
    if kind == "AdaDelta":
        a = D * history[0] + (1 - D) * g**2
        u = g * np.sqrt((history[1] + DELTA) / (a + DELTA))
        return rate * u, [a, D * history[1] + (1 - D) * u**2]
    m = M * history[0] + (1 - M) * g
    v = M2 * history[1] + (1 - M2) * g**2
    correction = math.sqrt(1 - M2**t) / (1 - M**t)
    return rate * correction * m / (np.sqrt(v) + TINY), [m, v]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", SOLVER_TYPES)
def test_five_steps_follow_the_formula(kind, dtype):
    random = np.random.default_rng(1)
    rule, tolerance = rule_of(kind), 1e-5 if dtype == np.float32 else 1e-12
    data = random.standard_normal(50).astype(dtype)
    history = [np.zeros(50, dtype) for _ in range(rule.history_count)]
    want, want_history = data.astype(float), [h.astype(float) for h in history]
    for i in range(5):
        g = random.standard_normal(50).astype(dtype)
        update, want_history = expected(
            kind, g.astype(float), want_history, 0.02, i + 1
        )
        want -= update
        rule.apply(data, g.copy(), history, local_rate=0.02, step=UpdateStep(0.01, i))
        np.testing.assert_allclose(data, want, rtol=tolerance, atol=tolerance)
        for got, h in zip(history, want_history, strict=True):
            np.testing.assert_allclose(got, h, rtol=10 * tolerance, atol=tolerance)
    assert data.dtype == dtype


@pytest.mark.parametrize("kind", SOLVER_TYPES)
def test_pieces_give_the_very_same_bits(kind):
    random = np.random.default_rng(2)
    data, g = random.standard_normal((2, 1000)).astype(np.float32)
    rule = rule_of(kind)
    whole, parts = data.copy(), data.copy()
    history = [np.full(1000, 0.01, np.float32) for _ in range(rule.history_count)]
    pieces = [h.copy() for h in history]
    step = UpdateStep(0.1, 7)
    rule.apply(whole, g.copy(), history, local_rate=0.1, step=step)
    # Sizes shrink and grow: the scratch arrays are reused.
    for start, stop in ((900, 1000), (0, 7), (7, 900)):
        cut = slice(start, stop)
        rule.apply(
            parts[cut], g[cut].copy(), [h[cut] for h in pieces],
            local_rate=0.1, step=step,
        )  # fmt: skip
    assert whole.tobytes() == parts.tobytes()
    assert [h.tobytes() for h in history] == [h.tobytes() for h in pieces]


@pytest.mark.parametrize("kind", SOLVER_TYPES)
def test_threads_do_not_share_scratch(kind):
    rule, step = rule_of(kind), UpdateStep(0.1, 0)
    gradients = np.random.default_rng(3).standard_normal((4, 20000))

    def run(g):
        data = np.zeros_like(g)
        history = [np.zeros_like(g) for _ in range(rule.history_count)]
        for _ in range(20):
            rule.apply(data, g.copy(), history, local_rate=0.1, step=step)
        return data

    alone = [run(g) for g in gradients]
    together = [None] * 4

    def work(i):
        together[i] = run(gradients[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", SOLVER_TYPES)
def test_empty_parameters_are_fine(kind):
    rule, empty = rule_of(kind), np.zeros(0, np.float32)
    history = [empty] * rule.history_count
    rule.apply(empty, empty, history, local_rate=1.0, step=UpdateStep(1.0, 0))


def test_two_dimensions_work_too():
    rule, data = rule_of("Adam"), np.ones((2, 3))
    rule.apply(
        data, np.ones((2, 3)), [np.zeros((2, 3))] * 2,
        local_rate=0.5, step=UpdateStep(1.0, 0),
    )  # fmt: skip
    assert (data < 1).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('type: "adam2"', r'"adam2" is no solver type .*did you mean "Adam"'),
        ('type: "NESTEROV"', r'did you mean "Nesterov"'),
        ('type: "xyz"', r"known: SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam\)$"),
        ('type: "AdaGrad" momentum: 0.9', r"momentum: 0\.9 cannot be used"),
        ('type: "RMSProp" momentum: 0.9', r"momentum: 0\.9 cannot be used"),
        ('type: "RMSProp" rms_decay: 1', r"rms_decay: 1 should lie in \[0, 1\)"),
        ('type: "Adam" momentum: 1', r"momentum: 1 should lie"),
        ('type: "Adam" momentum2: 1.5', r"momentum2: 1\.5 should lie"),
    ],
)
def test_wrong_settings_are_refused(text, said):
    with pytest.raises(SolverError, match=said):
        make_rule(parse_solver(text))


def test_the_default_is_plain_gradient_descent():
    data, g = np.ones(3), np.array([1.0, 2.0, 3.0])
    make_rule(parse_solver("")).apply(
        data, g, [np.zeros(3)], local_rate=0.5, step=UpdateStep(0.5, 0)
    )
    np.testing.assert_array_equal(data, [0.5, 0, -0.5])


def test_every_rule_names_its_kernel():
    for kind in SOLVER_TYPES:
        kernel = rule_of(kind).kernel(UpdateStep(0.1, 0))
        assert kernel is not None
        assert kernel.name == kind.lower()
    adam = rule_of("Adam").kernel(UpdateStep(0.1, 1))
    correction = math.sqrt(1 - M2**2) / (1 - M**2)
    assert adam.constants == pytest.approx((M, M2, TINY, correction))
