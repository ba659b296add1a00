"""As accurate with several ranks as with one (issue 3, 2.7): the real program."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from statistics import mean

import pytest

from benchmarks.cluster.convergence import (
    CASES,
    STALE_MOMENTUM,
    WAYS,
    Curve,
    Way,
    plot,
    save,
    summary,
    train,
)

# At this momentum training takes longer to settle, with staleness most of all: after
# 225 iterations runs are still on their way (0.939 to 0.966 beside 0.969 in step).
LENET_ITERS = 450

IN_STEP = Way(3, (), STALE_MOMENTUM)
STALE = Way(3, ("--staleness=3",), STALE_MOMENTUM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where data are made once."""
    return tmp_path_factory.mktemp("convergence")


def trained(name, way, folder, *, seed=1, **more):
    case = replace(CASES[name], **more)
    return train(case, way, seed, folder)


def settled(curve):
    """Accuracy near the end, less noisy than the last one alone."""
    return mean(accuracy for _, accuracy in curve.tests[-3:])


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "goal", "noise", "iters"),
    [("lenet", 0.95, 0.015, LENET_ITERS), ("cifar10_quick", 0.8, 0.04, 300)],
)
def test_any_number_of_ranks_reaches_the_accuracy_of_one(
    folder, name, goal, noise, iters
):
    ways = WAYS[name]
    one, *others = (trained(name, way, folder, iterations=iters) for way in ways)
    assert one.tests[0][1] < 0.2, "it knows nothing at the start"
    assert settled(one) > goal
    for way, curve in zip(ways[1:], others, strict=True):
        # Another momentum settles elsewhere with one rank too.
        like = Way(1, (), way.momentum)
        alone = trained(name, like, folder, iterations=iters) if way.momentum else one
        assert abs(settled(curve) - settled(alone)) < noise, (curve.way, settled(one))
    # Without staleness it is the same training; rounding errors grow slowly.
    for curve in others[:2]:
        pairs = zip(curve.losses[:5], one.losses[:5], strict=True)
        for (iteration, loss), (_, expected) in pairs:
            assert loss == pytest.approx(expected, rel=0.01), (curve.way, iteration)


@pytest.mark.mpi
def test_stale_workers_learn_the_digits_as_well(folder):
    in_step = trained("lenet", IN_STEP, folder, batch=66, iterations=LENET_ITERS)
    stale = trained("lenet", STALE, folder, batch=66, iterations=LENET_ITERS)
    assert settled(in_step) > 0.95
    assert settled(stale) > settled(in_step) - 0.025


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.timeout(900)
def test_stale_workers_learn_the_digits_as_well_with_any_seed(folder):
    finals = {
        way: [
            settled(
                trained("lenet", way, folder, seed=s, batch=66, iterations=LENET_ITERS)
            )
            for s in range(2, 6)
        ]
        for way in (IN_STEP, STALE)
    }
    in_step, stale = (mean(values) for values in finals.values())
    assert abs(stale - in_step) < 0.015, finals


def test_curves_are_kept(tmp_path):
    curves = [
        Curve("lenet", way, seed, [(0, 0.1), (9, final)], [(0, 2.3), (5, 0.4)])
        for way, seed, final in (("1 rank", 1, 0.9), ("1 rank", 2, 0.8), ("2", 1, 0.7))
    ]
    first, second = summary(curves)
    assert (first["seeds"], first["least"], first["greatest"]) == (2, 0.8, 0.9)
    assert first["mean"] == pytest.approx(0.85)
    assert (second["way"], second["mean"]) == ("2", 0.7)
    save(curves, tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[1]["value"] == "0.9"
    assert len(json.loads((tmp_path / "curves.json").read_text())["curves"]) == 3
    if plot(curves, tmp_path / "a" / "plot.png"):
        assert (tmp_path / "a" / "plot.png").read_bytes().startswith(b"\x89PNG")
