"""Sums of scores: the bits of one process, whoever ran which batch."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.solver import scores
from poseidon_caffe.solver.scores import ScoreSum
from poseidon_caffe.types import Shard
from tests.solver.team import Hub, TeamSync


def batches(count, sizes, seed=0):
    """Scores of very different magnitudes, so that the order of adding shows."""
    random = np.random.default_rng(seed)
    return [
        [
            (random.standard_normal(n) * 10.0 ** random.integers(-8, 9)).astype("f4")
            for n in sizes
        ]
        for _ in range(count)
    ]


def one_by_one(rows):
    """As a plain loop adds them."""
    total = [score.astype(np.float64) for score in rows[0]]
    for row in rows[1:]:
        total = [
            t[: s.size] + s.astype(np.float64)[: t.size]
            for t, s in zip(total, row, strict=True)
        ]
    return total


def by_workers(world, rows, first=0, sizes=None):
    hub = Hub(world)
    sizes = sizes or [score.size for score in rows[0]]

    def work(rank):
        shard = Shard(rank, world)
        total = ScoreSum(TeamSync(hub, rank), shard, first, sizes)
        for k, row in enumerate(rows):
            assert total.is_own == ((first + k) % world == rank)
            if total.is_own:
                total.add(row)
            else:
                total.skip()
        return total.finish()

    return hub.run(work)


def assert_same_bits(got, want):
    for result in got:
        assert [a.tobytes() for a in result] == [a.tobytes() for a in want]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_any_number_of_workers_and_first_one(world, count):
    rows = batches(count, [1, 5])
    for first in range(world):
        assert_same_bits(by_workers(world, rows, first), one_by_one(rows))


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_in_several_goes(monkeypatch, world, rounds):
    monkeypatch.setattr(scores, "_KEPT_BATCHES", rounds)
    for count in (1, 4, 6, 12, 13):
        rows = batches(count, [1, 3], seed=count)
        for first in range(world):
            assert_same_bits(by_workers(world, rows, first), one_by_one(rows))


@pytest.mark.parametrize("kept", [1, 1024])
def test_shapes_that_vary(monkeypatch, kept):
    monkeypatch.setattr(scores, "_KEPT_BATCHES", kept)
    rows = batches(9, [1, 6])
    for k, size in ((2, 4), (5, 3), (7, 9)):
        rows[k][1] = np.resize(rows[k][1], size)
    for world in (1, 2, 3):
        got = by_workers(world, rows, world - 1, [1, 6])
        assert got[0][1].size == 3
        assert_same_bits(got, one_by_one(rows))


def test_negative_zero_survives():
    rows = [[np.array([-0.0])], [np.array([-0.0])]]
    for first in (0, 1, 2):
        for (total,) in by_workers(3, rows, first):
            assert np.signbit(total[0])


def test_terms_are_copies():
    value = np.array([1.0])
    total = ScoreSum(TeamSync(Hub(1), 0), Shard(), 0, [1])
    for _ in range(3):
        total.add([value])
        value += 1
    assert total.finish()[0] == 6
