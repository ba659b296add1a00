"""One process's own company."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.solver.sync import LocalSync
from poseidon_caffe.types import GradientSync


def test_everything_is_here_already():
    sync: GradientSync = LocalSync()
    sync.wait(3)
    sync.collect_history()
    assert sync.updates_locally(3)
    assert [sync.agree(bits) for bits in (0, 2, 3)] == [0, 2, 3]
    assert sync.gather({"a": 1}) == [{"a": 1}]
    got = []
    sync.average(np.array([1.5, 2.5]), got.append)
    assert got[0].tolist() == [1.5, 2.5]


def test_sum_is_taken_in_order_and_leaves_its_terms_alone():
    rows = [np.array([x, 1.0]) for x in (1e16, 1.0, -1e16, 3.0)]
    total = LocalSync().sum_in_order(rows, 4)
    assert total.tolist() == [3.0, 4.0]  # 1e16 + 1 is 1e16
    assert rows[0].tolist() == [1e16, 1.0]
