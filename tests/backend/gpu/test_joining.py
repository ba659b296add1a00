"""Concatenation and its reverse on a GPU: every type, what is there already."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import ShapeError
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, here, rounded, there
from tests.devices import gpu_ops


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_of_any_type(storage, last, axis):
    whole = rounded(np.random.default_rng(0).standard_normal((4, 6, 3, 5)), storage)
    cuts = [1, 3] if whole.shape[axis] > 4 else [1, 2]
    parts = np.split(whole, cuts, axis)
    joined = there(np.zeros(whole.shape), storage, channels_last=last)
    gpu_ops().concat([there(part, storage) for part in parts], axis, joined)
    np.testing.assert_array_equal(here(joined), whole)
    back = [there(np.zeros(part.shape), storage) for part in parts]
    sizes = [part.shape[axis] for part in parts]
    gpu_ops().split(joined, axis, [back[0], None, back[2]], sizes)
    for got, want in (
        (back[0], parts[0]),
        (back[1], parts[1] * 0),
        (back[2], parts[2]),
    ):
        np.testing.assert_array_equal(here(got), want)


def test_the_length_of_one_part_may_be_left_out():
    x = there(np.arange(12.0).reshape(2, 6))
    part = there(np.zeros((2, 2)))
    gpu_ops().split(x, 1, [None, part])
    assert here(part).tolist() == [[4, 5], [10, 11]]
    with pytest.raises(ShapeError, match=r"cannot be cut into \[1, 2\]"):
        gpu_ops().split(x, 1, [None, part], [1, 2])


def test_what_is_there_already_is_not_copied():
    whole = there(np.arange(24.0).reshape(4, 6))
    before = gpu_ops().device.launches
    gpu_ops().concat([whole[:1], whole[1:]], 0, whole)
    gpu_ops().split(whole, 1, [whole[:, :2], whole[:, 2:]])
    assert gpu_ops().device.launches == before
