"""Sums over workers: the same bits on each, added in rank order."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.comm.pool import WorkersPool
from tests.comm.meeting import meet


def test_every_worker_gets_the_sum_in_rank_order():
    parts = [np.random.default_rng(i).normal(size=(2, 5)) for i in range(4)]

    def play(meeting, rank):
        values = parts[rank].copy()
        pool = WorkersPool(meeting)
        pool.sum(values)
        once = values.copy()
        pool.sum(values)
        return once, values

    expected = ((parts[0] + parts[1]) + parts[2]) + parts[3]
    for once, twice in meet(4, play):
        np.testing.assert_array_equal(once, expected)
        np.testing.assert_array_equal(twice, 4 * expected)
