from __future__ import annotations

import numpy as np

from poseidon_caffe.data import draws


def test_the_same_record_draws_the_same_in_any_company():
    key = draws.make_key(3, 7)
    together = draws.bits(key, range(100), 0)
    alone = [draws.bits(key, [record], 0)[0] for record in range(100)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(draws.bits(key, range(5, 100, 7), 0), together[5::7])


def test_keys_and_streams_are_independent():
    first = draws.bits(draws.make_key(1, 2), range(1000), 0)
    for other in (
        draws.bits(draws.make_key(2, 1), range(1000), 0),
        draws.bits(draws.make_key(1, 2), range(1000), 1),
        draws.bits(draws.make_key(1, 2), range(1000, 2000), 0),
    ):
        assert not np.intersect1d(first, other).size


def test_values_below_a_limit_are_uniform():
    drawn = draws.below(7, draws.make_key(5), range(70000), 2)
    counts = np.bincount(drawn, minlength=7)
    assert counts.size == 7
    # 10,000 each, standard deviation 93.
    assert np.abs(counts - 10000).max() < 450


def test_neighbouring_records_are_not_correlated():
    bits = draws.bits(draws.make_key(0), range(20000), 0) >> np.uint64(63)
    pairs = bits[:-1] * np.uint64(2) + bits[1:]
    assert np.abs(np.bincount(pairs.astype(int)) - 5000).max() < 350


def test_one_limit_per_record():
    limits = np.array([1, 2, 3] * 200)
    drawn = draws.below(limits, draws.make_key(9), range(600), 0)
    assert (drawn < limits).all()
    assert set(drawn[2::3]) == {0, 1, 2}


def test_great_record_numbers():
    records = range(2**40, 2**40 + 10)
    assert len(set(draws.below(1 << 30, draws.make_key(1), records, 0))) == 10
