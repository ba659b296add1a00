"""On a CPU nothing lies between the net's memory and what travels."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.comm.carrier import DIRECT
from tests.comm.support import Tiny


def test_everything_is_done_at_once():
    done, slot = [], Tiny().slots[0]
    DIRECT.fetch(slot)
    DIRECT.then([0], lambda: done.append(1))
    assert done
    target = DIRECT.zeros((2, 3), np.float64)
    DIRECT.take([0], np.arange(6.0).reshape(3, 2).T, target)
    assert target.tolist() == [[0, 2, 4], [1, 3, 5]]
    DIRECT.quiet(0)
    DIRECT.show(0)
