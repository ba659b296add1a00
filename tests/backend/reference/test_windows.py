from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseidon_caffe.backend.reference.windows import Windows

CASES = [
    Windows(size, count, kernel, stride, pad)
    for size, count, kernel, stride, pad in itertools.product(
        (1, 5, 8), (1, 4), (1, 3, 9), (1, 2, 4), (0, 1, 2)
    )
]


@pytest.mark.parametrize("windows", CASES, ids=str)
def test_sum_and_its_transpose(windows):
    x = np.arange(1.0, 2 * windows.size + 1).reshape(2, windows.size)
    want = np.zeros((2, windows.count))
    back = np.zeros_like(x)
    for i in range(windows.count):
        for k in range(windows.kernel):
            place = i * windows.stride - windows.pad + k
            if 0 <= place < windows.size:
                want[:, i] += x[:, place]
                back[:, place] += i + 1
    np.testing.assert_array_equal(windows.sum(x, 1), want)
    np.testing.assert_array_equal(windows.sum(x.T, 0), want.T)
    tops = np.tile(np.arange(1.0, windows.count + 1), (2, 1))
    np.testing.assert_array_equal(windows.spread(tops, 1), back)


def test_bounds_are_clipped():
    assert Windows(5, 4, 3, 2, 1).bounds() == [(0, 2), (1, 4), (3, 5), (5, 5)]


def test_padded_lengths_never_reach_zero():
    assert Windows(5, 3, 3, 2, 1).padded_lengths().tolist() == [3, 3, 3]
    assert Windows(4, 3, 3, 2, 0).padded_lengths().tolist() == [3, 2, 1]
