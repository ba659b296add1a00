"""Sums in rank order: the same bits for every order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseidon_caffe.comm.summing import OrderedSum


def term(clock, worker):
    """Terms whose sum depends on the order in which they are added."""
    draw = np.random.default_rng((clock, worker))
    return draw.normal(size=5) * 10.0 ** draw.integers(-9, 9, 5)


def in_rank_order(clock, count):
    total = term(clock, 0)
    for worker in range(1, count):
        total = total + term(clock, worker)
    return total


@st.composite
def arrivals(draw):
    """(workers, clocks, own worker, workers in the order their terms come)."""
    count, clocks = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    order = draw(st.permutations([w for w in range(count) for _ in range(clocks)]))
    return count, clocks, draw(st.integers(-1, count - 1)), order


@settings(deadline=None)
@given(arrivals())
def test_any_order_of_arrival_gives_the_same_bits(case):
    count, clocks, own, order = case
    freed, given_ = [], []
    total = OrderedSum(count, freed.append)
    sent, sums = [0] * count, []
    untouchable = []
    for worker in order:
        array = term(sent[worker], worker)
        is_private = worker != own
        if is_private:
            given_.append(array)
        else:
            untouchable.append((array, array.copy()))
        total.add(worker, array, is_private=is_private)
        sent[worker] += 1
        while total.is_complete:
            assert total.missing == []
            sums.append(total.total.copy())
            total.reset()
    assert len(sums) == clocks
    for clock, found in enumerate(sums):
        np.testing.assert_array_equal(found, in_rank_order(clock, count))
    for array, before in untouchable:
        np.testing.assert_array_equal(array, before)
    # Sums made of a worker's own terms alone, or in new memory, may be freed too.
    freed_ids = [id(array) for array in freed]
    assert len(set(freed_ids)) == len(freed_ids), "freed twice"
    assert {id(array) for array in given_} <= set(freed_ids), "kept"
    kept = {id(array) for array, _ in untouchable}
    assert not kept & set(freed_ids), "not ours to free"


def test_missing_are_those_whose_term_of_this_clock_is_not_in():
    total = OrderedSum(4, lambda array: None)
    assert total.missing == [0, 1, 2, 3]
    total.add(2, term(0, 2))
    total.add(0, term(0, 0))
    assert total.missing == [1, 3]
    assert not total.is_complete
    total.add(0, term(1, 0))
    total.add(1, term(0, 1))
    assert total.missing == [3]
    total.add(3, term(0, 3))
    assert total.is_complete
    total.reset()
    assert total.missing == [1, 2, 3], "worker 0's next term is here already"


def test_a_clock_that_is_complete_already_follows_at_once():
    total = OrderedSum(2, lambda array: None)
    for clock in range(3):
        total.add(0, term(clock, 0))
        total.add(1, term(clock, 1))
    for clock in range(3):
        assert total.is_complete
        np.testing.assert_array_equal(total.total, in_rank_order(clock, 2))
        total.reset()
    assert not total.is_complete


def test_there_is_no_sum_before_the_first_term():
    with pytest.raises(AssertionError):
        _ = OrderedSum(1, lambda array: None).total
