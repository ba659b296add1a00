"""Learning rates against the formulas, and against rates in Caffe's own log."""

from __future__ import annotations

import math
import re

import pytest

from poseidon_caffe.errors import SolverError
from poseidon_caffe.schema.upgrade import parse_solver
from poseidon_caffe.solver.schedule import (
    POLICIES,
    ScheduleState,
    check_schedule,
    learning_rate,
)
from tests.solver.support import GOLDEN


def rates(text, iterations, current_step=0):
    param, state = parse_solver(text), ScheduleState(current_step)
    check_schedule(param)
    return [learning_rate(param, i, state) for i in iterations], state


def test_fixed():
    assert rates('base_lr: 0.5 lr_policy: "fixed"', (0, 9))[0] == [0.5, 0.5]


def test_step():
    text = 'base_lr: 2 lr_policy: "step" gamma: 0.5 stepsize: 3'
    got, state = rates(text, range(8))
    assert got == [2, 2, 2, 1, 1, 1, 0.5, 0.5]
    assert state.current_step == 2


def test_exp():
    assert rates('base_lr: 1 lr_policy: "exp" gamma: 0.5', (0, 1, 3))[0] == [
        1,
        0.5,
        0.125,
    ]


def test_multistep():
    text = 'base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 4'
    assert rates(text, range(6))[0] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    # After a resume the step goes on from the solverstate.
    assert rates(text, (3, 4), current_step=1)[0] == [0.5, 0.25]


def test_multistep_takes_one_step_an_iteration():
    text = 'base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 2'
    assert rates(text, (2, 3))[0] == [0.5, 0.25]


def test_poly():
    text = 'base_lr: 1 lr_policy: "poly" power: 2 max_iter: 4'
    assert rates(text, range(6))[0] == [1, 0.5625, 0.25, 0.0625, 0, 0]


def test_sigmoid():
    text = 'base_lr: 2 lr_policy: "sigmoid" gamma: -0.5 stepsize: 10'
    got, _ = rates(text, (0, 10, 20, 1_000_000))
    want = [2 / (1 + math.exp(-5)), 1, 2 / (1 + math.exp(5))]
    assert got[:3] == pytest.approx(want, rel=1e-6)
    assert got[3] == 0  # far out nothing overflows


def test_inv_gives_the_rates_of_caffes_log():
    log = (GOLDEN / "train" / "lenet_reference.log").read_text()
    found = re.findall(r"Iteration (\d+), lr = (\S+)", log)
    assert len(found) == 25
    text = 'base_lr: 0.01 lr_policy: "inv" gamma: 0.0001 power: 0.75'
    got, _ = rates(text, [int(i) for i, _ in found])
    assert [f"{rate:g}" for rate in got] == [rate for _, rate in found]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base_lr: 1", r"lr_policy is missing \(known: fixed, step"),
        ('base_lr: 1 lr_policy: "stp"', r'"stp" is no .*did you mean "step"\?'),
        ('lr_policy: "fixed"', "needs base_lr"),
        ('base_lr: 1 lr_policy: "step"', "needs gamma and stepsize"),
        (
            'base_lr: 1 lr_policy: "step" gamma: 1 stepsize: 0',
            "stepsize above 0, not 0",
        ),
        ('base_lr: 1 lr_policy: "exp"', "needs gamma"),
        ('base_lr: 1 lr_policy: "inv" gamma: 1', "needs power"),
        ('base_lr: 1 lr_policy: "poly" power: 1', "needs max_iter"),
        ('base_lr: 1 lr_policy: "sigmoid" gamma: 1', "needs stepsize"),
        ('base_lr: 1 lr_policy: "multistep"', "needs gamma"),
    ],
)
def test_what_is_missing_is_named(text, said):
    with pytest.raises(SolverError, match=said):
        check_schedule(parse_solver(text))


@pytest.mark.parametrize(
    "text",
    [
        'lr_policy: "exp" gamma: 2',
        'lr_policy: "exp" gamma: 1.025',  # beyond float32 only
        'lr_policy: "inv" gamma: -1 power: 0.5',
        'lr_policy: "step" gamma: 0 stepsize: -1',
    ],
)
def test_rates_out_of_bounds_are_errors(text):
    with pytest.raises(SolverError, match=r"5000|stepsize"):
        rates(f"base_lr: 1 {text}", [5000])


def test_all_seven_policies_are_known():
    assert set(POLICIES) == {
        "fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid",
    }  # fmt: skip
