"""SGD by oneDNN primitives beside the same rule in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu import update as cpu_update
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.schema.messages import SolverParameter
from poseidon_caffe.solver.rules import make_rule
from poseidon_caffe.solver.update import Segment
from poseidon_caffe.types import UpdateStep

PIECE = 1000


@pytest.fixture
def ops(monkeypatch):
    monkeypatch.setattr(cpu_update, "_PIECE_COUNT", PIECE)
    found = get_ops("cpu", 2)
    if found.name != "cpu":
        pytest.skip("no oneDNN on this machine")
    return found


def segment(size, seed, *, decay=0.01, l1=False, scale=0.5, rate=0.1):
    rng = np.random.default_rng(seed)
    data, diff, history = rng.standard_normal((3, size)).astype(np.float32)
    return Segment(data, diff, [history], rate, decay, l1, scale)


@pytest.mark.parametrize("size", [1, 20, PIECE, 2 * PIECE + 17])
@pytest.mark.parametrize("settings", [{}, {"decay": 0.0}, {"l1": True}, {"scale": 1.0}])
def test_as_the_reference(ops, size, settings):
    rule = make_rule(SolverParameter(type="SGD", momentum=0.9))
    mine, theirs = segment(size, 1, **settings), segment(size, 1, **settings)
    for iteration in range(3):
        # The rate is given at run time: no primitive may remember the first.
        for part, backend in ((mine, ops), (theirs, ReferenceOps())):
            part.local_rate = 0.1 / (iteration + 1)
            backend.update(rule, UpdateStep(0.1, iteration), [part])
    np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.history[0], theirs.history[0], rtol=1e-5, atol=1e-6)


def test_the_gradient_is_left_alone(ops):
    part = segment(PIECE + 3, 2)
    before = part.diff.copy()
    ops.update(
        make_rule(SolverParameter(type="SGD", momentum=0.9)), UpdateStep(0.1, 0), [part]
    )
    np.testing.assert_array_equal(part.diff, before)


def test_momentum_of_two_solvers_is_kept_apart(ops):
    first, second = segment(50, 3), segment(50, 3)
    for momentum, part in ((0.9, first), (0.0, second)):
        rule = make_rule(SolverParameter(type="SGD", momentum=momentum))
        ops.update(rule, UpdateStep(0.1, 0), [part])
    assert not np.allclose(first.history[0], second.history[0])


def test_other_rules_take_the_general_way(ops):
    rule = make_rule(SolverParameter(type="Nesterov", momentum=0.9))
    assert rule.heavy_ball is None
    mine, theirs = segment(2 * PIECE, 4), segment(2 * PIECE, 4)
    ops.update(rule, UpdateStep(0.1, 0), [mine])
    ReferenceOps().update(rule, UpdateStep(0.1, 0), [theirs])
    np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-6)
