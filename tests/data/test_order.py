from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from poseidon_caffe.data.order import EpochOrder


def epochs(order, size, count):
    return np.reshape([order.index(g) for g in range(size * count)], (count, size))


def test_unmixed_is_the_order_of_the_source():
    order = EpochOrder(5, 1, shuffle=False, stream=4)
    assert epochs(order, 5, 2).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_each_epoch_is_a_permutation_of_its_own():
    found = epochs(EpochOrder(20, 1, shuffle=True, stream=4), 20, 6)
    assert (np.sort(found, axis=1) == np.arange(20)).all()
    assert len({tuple(row) for row in found}) == 6


def test_all_orders_are_equally_likely():
    found = epochs(EpochOrder(3, 7, shuffle=True, stream=4), 3, 3000)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    # Five standard deviations of 3000 draws of one in six.
    assert (abs(counts - 500) < 5 * np.sqrt(500 * 5 / 6)).all()


def test_keys_decide_and_nothing_else():
    first = EpochOrder(9, 1, shuffle=True, stream=4)
    there = epochs(first, 9, 8)
    # Asked backwards, by threads, after another key: the same.
    second = EpochOrder(9, 2, shuffle=True, stream=4)
    assert not np.array_equal(epochs(second, 9, 8), there)
    second.rekey(1)
    with ThreadPoolExecutor(4) as pool:
        back = list(pool.map(second.index, range(71, -1, -1)))
    assert back[::-1] == there.ravel().tolist()
