# ruff: noqa: DTZ001 - a log tells no zone.

from __future__ import annotations

import math
from datetime import datetime

import pytest

from poseidon_caffe.report.log_lines import (
    Clock,
    Output,
    iteration_of,
    leap_day,
    output_of,
    rate_of,
)

HEAD = "I1122 15:16:09.536989  2390 solver.cpp:239] "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (HEAD, datetime(2019, 11, 22, 15, 16, 9, 536989)),
        ("I20261122 15:16:09.5  1 a:1] x", datetime(2026, 11, 22, 15, 16, 9, 5)),
        ("[1,0]<stderr>:" + HEAD, datetime(2019, 11, 22, 15, 16, 9, 536989)),
        ("I1322 15:16:09.536989 1 a:1] x", None),
        ("I1122 25:16:09.536989 1 a:1] x", None),
        ("I00000101 15:16:09.536989 1 a:1] x", None),
        ("  name: Iteration 5", None),
        ("", None),
    ],
)
def test_time_of_a_line(line, expected):
    assert Clock(2019).read(line) == expected


def test_the_year_rolls_over_where_no_line_names_it():
    clock = Clock(2019)
    read = [clock.read(f"I{day} 00:00:01.000000 1 a:1] x") for day in ("1231", "0101")]
    assert [each.year for each in read] == [2019, 2020]
    named = [clock.read(f"I2021{d} 00:00:01.000000 1 a:1] ") for d in ("1231", "0101")]
    assert [each.year for each in named] == [2021, 2021]


def test_leap_day_is_found_at_the_head_of_a_line_only():
    assert leap_day("x\nI0229 00:00:00.0 1 a:1] x")
    assert not leap_day("x I0229 \nI20240229 00:00:00.0 1 a:1] x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "    Test net output #1: loss = 2.35195 (* 1 = 2.35195 loss)",
            Output(test=True, name="loss", value=2.35195),
        ),
        (
            "    Train net output #0: a/b = 1e-05",
            Output(test=False, name="a/b", value=1e-5),
        ),
        (
            "Iteration 20 (48.8998 iter/s, 0.409s/20 iters), loss = 1.5",
            Output(test=False, name="", value=1.5),
        ),
        ("Iteration 20, loss = 1.5", Output(test=False, name="", value=1.5)),
        ("Test net output #1: loss = 1e", None),
        ("Test loss: 3", None),
    ],
)
def test_outputs(text, expected):
    assert output_of(HEAD + text) == expected


def test_nan_and_infinity_are_values():
    assert math.isnan(output_of(HEAD + "Train net output #0: loss = -nan").value)
    assert output_of(HEAD + "Train net output #0: loss = inf").value == math.inf


def test_iterations_and_rates():
    assert iteration_of(HEAD + "Iteration 500, Testing net (#0)") == 500
    assert iteration_of(HEAD + "Solving LeNet") is None
    assert rate_of(HEAD + "Iteration 20, lr = 1e-06") == 1e-6
    assert rate_of(HEAD + "Iteration 20, loss = 1") is None
