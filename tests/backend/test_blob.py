from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import empty_array, view_of
from poseidon_caffe.errors import ShapeError

SHAPE = (2, 3, 4, 5)


def test_memory_is_aligned():
    assert empty_array(0).size == 0
    for count in (1, 3, 1000):
        array = empty_array(count, np.float32)
        assert array.size == count
        assert array.ctypes.data % 64 == 0
    assert Blob((3, 5)).data.ctypes.data % 64 == 0


def test_channels_last_is_only_how_it_is_stored():
    raw = np.arange(120.0)
    view = view_of(raw, SHAPE, channels_last=True)
    assert view.shape == SHAPE
    np.testing.assert_array_equal(view, raw.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2))
    assert view_of(raw, SHAPE, channels_last=False).flags.c_contiguous
    assert np.shares_memory(view, raw)


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((7,), False),
        ((2, 3), False),
        (SHAPE, True),
        ((1, 2, 3, 2, 2), True),
        ((), False),
    ],
)
def test_fresh_blobs_are_zero_and_channels_last_where_it_pays(shape, last):
    blob = Blob(shape, channels_last=True)
    assert blob.data.shape == blob.diff.shape == blob.shape == shape
    assert blob.channels_last is last
    assert blob.data.dtype == np.float32
    assert not blob.data.any()
    assert not blob.diff.any()
    assert blob.count == int(np.prod(shape))


def test_reshape_keeps_memory_while_it_suffices():
    blob = Blob((4, 6))
    blob.data[...] = np.arange(24).reshape(4, 6)
    before = blob.data
    blob.reshape((2, 12))
    assert np.shares_memory(before, blob.data)
    np.testing.assert_array_equal(blob.data.ravel(), np.arange(24))
    blob.reshape((3,))
    assert blob.data.tolist() == [0, 1, 2]
    blob.reshape((100, 100))
    assert blob.data.shape == (100, 100)
    with pytest.raises(ShapeError, match="must not be negative"):
        blob.reshape((2, -1))


def test_canonical_axis():
    blob = Blob(SHAPE)
    assert [blob.canonical_axis(a) for a in (0, 3, -1, -4)] == [0, 3, 3, 0]
    for axis in (4, -5):
        with pytest.raises(ShapeError, match=f"axis {axis} is out of range"):
            blob.canonical_axis(axis)


def test_cleared_diff_reads_as_zero():
    blob = Blob((3,))
    blob.diff[...] = 5
    blob.clear_diff()
    assert blob.diff.tolist() == [0, 0, 0]


def test_gradient_target_overwrites_first_then_accumulates():
    blob = Blob((3,))
    blob.diff[...] = 5
    blob.clear_diff()
    target, accumulate = blob.gradient_target()
    assert not accumulate
    target[...] = 2
    again, accumulate = blob.gradient_target()
    assert accumulate
    again += 1
    assert blob.diff.tolist() == [3, 3, 3]


def test_shared_memory_follows_growth():
    first, second = Blob((2, 6)), Blob((3, 4))
    second.share_data(first)
    second.share_diff(first)
    first.data[...] = 7
    first.diff[...] = 8
    assert (second.data == 7).all()
    assert (second.diff == 8).all()
    for blob in (first, second):
        blob.reshape((50, 50))
    second.data[...] = 9
    assert (first.data == 9).all()


def test_key_says_whether_data_may_have_changed():
    blob = Blob((3,))
    first = blob.key
    blob.touch()
    assert blob.key != first
    blob.exposed = True
    assert blob.key is None
