from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.base import flat
from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.memory import empty_array, view_of
from poseidon_caffe.errors import ShapeError
from tests.devices import gpu_ops

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


# -- on a device ---------------------------------------------------------------------
def there(shape, **more):
    """A blob of the GPU backend."""
    return Blob(shape, memory=gpu_ops().memory, **more)


def written_by_a_kernel(array, value):
    """What a kernel that fills an array leaves behind."""
    gpu_ops().memory.upload(np.full(array.size, value, array.dtype), flat(array))


def read_by_a_kernel(array):
    out = np.empty(array.size, array.dtype)
    gpu_ops().memory.download(flat(array), out)
    return out


def test_device_blobs_are_zero_on_both_sides():
    for last in (False, True):
        blob = there(SHAPE, channels_last=last)
        assert blob.data.shape == blob.diff.shape == SHAPE
        assert not blob.cpu_data.any()
        assert not blob.mutable_cpu_diff.any()
        assert blob.cpu_data.shape == SHAPE
        assert blob.cpu_data.flags.c_contiguous is not last


def test_both_sides_have_one_layout():
    values = np.arange(120, dtype=np.float32).reshape(SHAPE)
    blob = there(SHAPE, channels_last=True)
    blob.mutable_cpu_data[...] = values
    stored = read_by_a_kernel(blob.data)
    np.testing.assert_array_equal(stored, values.transpose(0, 2, 3, 1).reshape(-1))
    np.testing.assert_array_equal(blob.cpu_data, values)


def test_a_cleared_diff_is_zero_for_everybody():
    blob = there((3,))
    blob.mutable_cpu_diff[...] = 5
    blob.clear_diff()
    assert blob.cpu_diff.tolist() == [0, 0, 0]
    blob.mutable_cpu_diff[...] = 6
    assert read_by_a_kernel(blob.diff).tolist() == [6, 6, 6]
    blob.clear_diff()
    blob.mutable_cpu_diff[0] = 7
    assert blob.cpu_diff.tolist() == [7, 0, 0]
    assert not blob.diff_is_zero
    blob.clear_diff()
    assert read_by_a_kernel(blob.diff).tolist() == [0, 0, 0]


def test_kernels_overwrite_a_cleared_diff_and_add_to_another():
    blob = there((3,))
    blob.mutable_cpu_diff[...] = 5
    target, accumulate = blob.gradient_target()
    assert accumulate
    assert read_by_a_kernel(target).tolist() == [5, 5, 5]
    blob.clear_diff()
    target, accumulate = blob.gradient_target()
    assert not accumulate
    written_by_a_kernel(target, 2)
    assert blob.cpu_diff.tolist() == [2, 2, 2]


def test_sharing_across_shapes_and_growth():
    first, second = there((2, 6)), there((3, 4))
    kept = first.mutable_cpu_data
    kept[...] = 7
    before = gpu_ops().memory.allocations
    second.share_data(first)
    second.share_diff(first)
    assert gpu_ops().memory.allocations > before
    again = gpu_ops().memory.allocations
    second.share_data(first)
    second.share_diff(first)
    assert gpu_ops().memory.allocations == again
    assert (second.cpu_data == 7).all()
    written_by_a_kernel(second.data, 8)
    assert (first.cpu_data == 8).all()
    assert (kept == 8).all()
    for blob in (second, first):
        blob.reshape((50, 50))
    second.mutable_cpu_data[...] = 9
    assert (read_by_a_kernel(first.data) == 9).all()
    assert first.data.shape == (50, 50)
    assert (kept == 8).all()


def test_a_smaller_shape_keeps_what_the_larger_had():
    blob = there((4, 6))
    blob.mutable_cpu_data[...] = np.arange(24).reshape(4, 6)
    blob.reshape((3,))
    blob.mutable_cpu_data[1] = -1
    assert read_by_a_kernel(blob.data).tolist() == [0, -1, 2]
    blob.reshape((2, 12))
    assert blob.cpu_data.reshape(-1).tolist() == [0, -1, *range(2, 24)]


def test_a_move_into_an_arena_is_seen_by_all_that_share():
    first, second = there((2, 3)), there((6,))
    second.share_data(first)
    old = first.data
    arena = gpu_ops().memory.zeros(64, np.float32)
    written_by_a_kernel(arena, 3)
    first.data_storage.move(arena[16:22])
    assert (second.cpu_data == 3).all()
    assert pointer(second.data) == pointer(arena) + 64 != pointer(old)
    second.mutable_cpu_data[...] = 4
    assert (read_by_a_kernel(first.data) == 4).all()
    got = read_by_a_kernel(arena)
    assert got.tolist() == [3] * 16 + [4] * 6 + [3] * 42
