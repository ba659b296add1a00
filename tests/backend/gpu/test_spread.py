"""Parameters along three axes of memory: every element gets its own."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.spread import spread_over


def places(spread):
    """Which parameter each element takes, in the order of memory."""
    a, b, c = np.indices(spread.lengths)
    return sum(
        n * step for n, step in zip((a, b, c), spread.steps, strict=True)
    ).reshape(-1)


def laid(shape, order):
    """An array whose memory has its axes in ``order``."""
    back = np.argsort(order)
    return np.zeros([shape[i] for i in order]).transpose(back)


@pytest.mark.parametrize(
    ("shape", "order", "axis", "param"),
    [
        ((2, 3, 4, 5), (0, 1, 2, 3), 1, (3,)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 1, (3,)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 0, (2,)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 1, (3, 4)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 0, (2, 3)),
        ((2, 3, 4, 5), (0, 1, 2, 3), -1, (5,)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 0, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (0, 2, 3, 1), 0, ()),
        ((1, 3, 1, 1), (0, 2, 3, 1), 1, (3,)),
        ((), (), 0, ()),
    ],
)
def test_every_element_gets_its_parameter(shape, order, axis, param):
    array = laid(shape, order)
    spread = spread_over([None, array], axis, param)
    first = axis % max(len(shape), 1)
    numbers = np.arange(np.prod(param, dtype=int)).reshape(param)
    wide = numbers.reshape(param + (1,) * (len(shape) - first - len(param)))
    want = np.broadcast_to(wide, shape).transpose(spread.order)
    assert places(spread).tolist() == want.reshape(-1).tolist()


def test_their_own_order_is_kept_where_one_axis_is_spread():
    last = laid((2, 3, 4, 5), (0, 2, 3, 1))
    assert spread_over([last], 1, (3,)).order == (0, 2, 3, 1)
    assert spread_over([last], 1, (3,)).joins_fastest is False
    assert spread_over([last], 1, (3, 4)).order == (0, 1, 2, 3)
    assert spread_over([laid((2, 3, 4), (0, 1, 2))], 1, (3,)).joins_fastest
