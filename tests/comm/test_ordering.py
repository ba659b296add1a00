"""Which waiting gradient leaves first."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.comm.memory import RowMemory
from poseidon_caffe.comm.ordering import SendOrder
from poseidon_caffe.comm.rows import Piece, Row
from poseidon_caffe.comm.settings import SORT_POLICIES
from poseidon_caffe.errors import ClusterError


def memory(values, gradient, priority=0):
    blob = Blob((len(values),))
    blob.data[...], blob.diff[...] = values, gradient
    piece = Piece(0, 0, blob.count)
    return RowMemory(Row(0, 0, (piece,), priority, False, "float32"), [blob])


def test_fixed_order_is_that_of_the_forward_pass():
    order = SendOrder("FixedOrder")
    assert [order.priority(memory([1], [1], p)) for p in (3, 0, 7)] == [3, 0, 7]


def test_fifo_leaves_the_order_alone():
    order = SendOrder("FIFO")
    assert {order.priority(memory([1], [1], p)) for p in (3, 0, 7)} == {0}


def test_random_differs_from_time_to_time_but_not_from_run_to_run():
    draws = [
        [order.priority(memory([1], [1])) for _ in range(20)]
        for order in (SendOrder("Random"), SendOrder("Random"))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 15


def test_the_relatively_largest_gradient_leaves_first():
    order = SendOrder("RelativeMagnitude")
    cases = [
        memory([10, -10], [5, -5]),
        memory([1, 1], [0.1, 0.1]),
        memory([100, 100], [1, 1]),
        memory([1, 1], [0, 0]),
        memory([0, 0], [0, 0]),
    ]
    found = [order.priority(each) for each in cases]
    assert found == sorted(found)
    assert len(set(found[:4])) == 4


@pytest.mark.parametrize("gradient", [[np.inf, 1], [np.nan, 1], [3e38, 3e38]])
def test_a_gradient_beyond_all_bounds_has_some_priority(gradient):
    with np.errstate(over="ignore"):
        assert isinstance(
            SendOrder("RelativeMagnitude").priority(memory([0, 1e-30], gradient)), int
        )


def test_the_zero_values_of_a_new_bias_do_not_hinder():
    found = SendOrder("RelativeMagnitude").priority(memory([0, 0], [1, 1]))
    assert found < SendOrder("RelativeMagnitude").priority(memory([4, 4], [1, 1]))


def test_an_unknown_policy_is_refused_with_those_known():
    with pytest.raises(ClusterError, match=r'"Fifo".*FixedOrder, FIFO, Random, Rel'):
        SendOrder("Fifo")
    for policy in SORT_POLICIES:
        SendOrder(policy)
