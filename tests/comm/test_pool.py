"""Sums over workers: the same bits on each, added in rank order."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.pool import WorkersPool
from tests.comm.couriers import on_couriers


@pytest.mark.parametrize("shape", [(2, 5), (400,), ()])
def test_every_worker_gets_the_sum_in_rank_order(shape):
    draws = [np.random.default_rng(rank) for rank in range(4)]
    parts = [
        np.asarray(draw.normal(size=shape) * 10.0 ** draw.integers(-9, 9, shape))
        for draw in draws
    ]

    def play(courier):
        pool = WorkersPool(Board(courier, range(4), 100))
        values = parts[courier.rank].copy()
        pool.sum(values)
        once = values.copy()
        pool.sum(values)
        return once, values

    expected = ((parts[0] + parts[1]) + parts[2]) + parts[3]
    for once, twice in on_couriers(4, play, delay_s=(0, 1e-3)):
        np.testing.assert_array_equal(once, expected)
        np.testing.assert_array_equal(twice, 4 * expected)


def test_one_worker_keeps_its_values():
    def play(courier):
        values = np.arange(3.0)
        WorkersPool(Board(courier, (0,), 100)).sum(values)
        return values.tolist()

    assert on_couriers(1, play) == [[0, 1, 2]]
