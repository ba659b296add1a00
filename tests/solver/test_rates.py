"""Rates out of order are those of the loop."""

from __future__ import annotations

import random

import pytest

from poseidon_caffe.errors import SolverError
from poseidon_caffe.schema.upgrade import parse_solver
from poseidon_caffe.solver import rates
from poseidon_caffe.solver.rates import RateTable
from poseidon_caffe.solver.schedule import POLICIES, ScheduleState, learning_rate

PARAM = "base_lr: 0.1 gamma: 0.7 power: 0.5 stepsize: 3 max_iter: 40 "
STEPS = "stepvalue: 2 stepvalue: 2 stepvalue: 9 stepvalue: 10 "


def loop(param, count, state):
    return [learning_rate(param, i, state) for i in range(count)]


@pytest.mark.parametrize("policy", POLICIES)
def test_any_order_any_number_of_times(policy):
    param = parse_solver(PARAM + STEPS + f'lr_policy: "{policy}"')
    want = loop(param, 40, ScheduleState())
    table = RateTable(param, 0, 0)
    asked = [0, 0, 1, 4, 2, 4, 3, *range(5, 40), *range(40)]
    random.Random(1).shuffle(asked)
    for iteration in asked:
        assert table.rate(iteration) == want[iteration]


@pytest.mark.parametrize("policy", POLICIES)
def test_from_the_middle(policy):
    param = parse_solver(PARAM + STEPS + f'lr_policy: "{policy}"')
    want = loop(param, 30, ScheduleState())
    state = ScheduleState()
    loop(param, 10, state)
    table = RateTable(param, 10, state.current_step)
    assert [table.rate(i) for i in range(10, 30)] == want[10:]
    with pytest.raises(SolverError, match="iteration 9 is asked for"):
        table.rate(9)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rates, "_KEPT_ITERS", 5)
    table = RateTable(parse_solver(PARAM + 'lr_policy: "fixed"'), 0, 0)
    table.rate(100)
    table.rate(96)
    with pytest.raises(SolverError, match="from 96 on"):
        table.rate(95)
