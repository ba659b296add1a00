"""Notes of faults on the device: kept until asked for, one place a check."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.devices import gpu_ops


def labels(ops, *values):
    array = ops.memory.zeros(len(values), np.float32)
    ops.memory.upload(np.array(values, np.float32), array)
    return array


def test_faults_wait_until_they_are_asked_for():
    ops = gpu_ops()
    checks = [
        ops.number_check(lambda v, p, n, i=i: LayerError(f"check {i}: {v:g} {p} {n}"))
        for i in range(70)
    ]
    for check in checks:
        check.run(labels(ops, 0, 1), 2)
    ops.raise_faults()
    checks[66].run(labels(ops, 0, 5), 2)
    checks[66].run(labels(ops, 0, 1), 2)
    with pytest.raises(LayerError, match="check 66: 5 1 2"):
        ops.raise_faults()
    ops.raise_faults()


def test_a_check_that_is_gone_says_nothing():
    ops = gpu_ops()
    check = ops.number_check(lambda *_: LayerError("gone"))
    check.run(labels(ops, 9), 2)
    del check
    gc.collect()
    again = ops.number_check(lambda *_: LayerError("again"))
    ops.raise_faults()
    again.run(labels(ops, 9), 2)
    with pytest.raises(LayerError, match="again"):
        ops.raise_faults()
