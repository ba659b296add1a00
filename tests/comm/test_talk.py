"""Numbers that workers tell each other without a model."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.talk import Talk
from tests.comm.support import together


@pytest.mark.parametrize("is_patient", [False, True])
def test_means_sums_and_items(is_patient):
    def work(rank, cluster):
        talk, told = Talk(cluster.workers_board, is_patient=is_patient), []
        for k in range(3):
            talk.average(np.array([rank + k]), told.append)
        dealt = [np.array([float(k)]) for k in range(rank, 5, 3)]
        total = talk.sum_in_order(dealt, 5)
        items = talk.gather({"rank": rank})
        talk.finish()
        talk.end()
        return [float(each[0]) for each in told], total.tolist(), items

    found = together(3, ClusterSettings(), work)
    for rank, (told, total, items) in enumerate(found):
        assert told == [(rank or 1) + k for k in range(3)]
        assert total == [10.0]
        assert items == (None if rank else [{"rank": k} for k in range(3)])
