"""Means by way of the hosts, where there is no NCCL."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.comm.board_reducer import BoardReducer
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import together


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3])
def test_all_ranks_get_the_mean(size, dtype):
    def work(rank, cluster):
        reducer = BoardReducer(cluster.workers_board, ReferenceOps().transfers())
        arrays = [np.full(n, rank + n / 7, dtype) for n in (5, 1, 400)]
        for array in arrays:
            reducer.hold(reducer.mean(array))
        reducer.close()
        return arrays

    for arrays in together(size, ClusterSettings(), work):
        for n, array in zip((5, 1, 400), arrays, strict=True):
            np.testing.assert_allclose(array, (size - 1) / 2 + n / 7, rtol=1e-6)
            assert array.dtype == dtype
