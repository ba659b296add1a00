"""Layouts, copies and scratch memory that all families share."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.base import (
    Scratch,
    flat,
    is_dense,
    memory_order,
    same_memory,
)
from poseidon_caffe.backend.gpu.device import pointer
from tests.devices import gpu_ops

SHAPE = (2, 3, 4, 5)


def put(values, order=None):
    """On the device, axes stored in ``order`` (slowest first)."""
    values = np.asarray(values)
    order = order or tuple(range(values.ndim))
    array = gpu_ops().memory.zeros(values.size, values.dtype)
    stored = np.ascontiguousarray(values.transpose(order))
    gpu_ops().memory.upload(stored.reshape(-1), array)
    shaped = array.reshape(tuple(values.shape[i] for i in order))
    return shaped.transpose(tuple(int(i) for i in np.argsort(order)))


def get(array):
    """Back from the device, whatever its (dense) layout."""
    out = np.empty(array.size, array.dtype)
    gpu_ops().memory.download(flat(array), out)
    order = memory_order([array])
    stored = out.reshape(tuple(array.shape[i] for i in order))
    return stored.transpose(tuple(int(i) for i in np.argsort(order)))


def numbers(shape=SHAPE, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


LAST = (0, 2, 3, 1)


def test_dense_is_any_order_without_gaps():
    array = put(numbers())
    assert is_dense(array)
    assert is_dense(put(numbers(), LAST))
    assert is_dense(array.T)
    assert is_dense(array[1])
    assert is_dense(array[:, 1:2][0])
    assert not is_dense(array[:, 1:2])
    assert not is_dense(array[..., :4])
    assert not is_dense(array[..., ::2])
    assert is_dense(put(numbers((1, 1, 1))))


def test_same_memory_ignores_axes_of_one_place():
    array = put(numbers((2, 1, 3)))
    assert same_memory(array, array.reshape(2, 1, 3))
    assert same_memory(array, array.transpose((1, 0, 2)).transpose((1, 0, 2)))
    assert not same_memory(array, array.reshape(2, 3))
    assert not same_memory(array[1:], array[:1])
    square = put(numbers((3, 3)))
    assert not same_memory(square, square.T)


def test_order_of_memory():
    assert memory_order([None, put(numbers())]) == (0, 1, 2, 3)
    assert memory_order([put(numbers(), LAST)]) == LAST
    gaps = put(numbers())[:, :2]
    assert memory_order([gaps, put(numbers(), LAST)]) == LAST
    assert memory_order([gaps]) == (0, 1, 2, 3)
    np.testing.assert_array_equal(
        get(flat(put(numbers(), LAST))), numbers().transpose(LAST).reshape(-1)
    )


@pytest.mark.parametrize("orders", [(None, None), (None, LAST), (LAST, None)])
@pytest.mark.parametrize("types", [("f4", "f4"), ("f4", "f8"), ("f2", "f4")])
def test_copies_between_layouts_and_types(orders, types):
    source = put(numbers(dtype=types[0]), orders[0])
    target = put(np.full(SHAPE, -1, types[1]), orders[1])
    gpu_ops().copy(source, target)
    np.testing.assert_array_equal(get(target), numbers(dtype=types[1]))


@pytest.mark.parametrize("orders", [(None, LAST), (LAST, None), (LAST, LAST)])
def test_copies_between_shapes_go_by_caffes_order(orders):
    values = numbers((4, 6, 5, 1))
    source, target = put(numbers(), orders[0]), put(-values, orders[1])
    gpu_ops().copy(source, target)
    np.testing.assert_array_equal(get(target), values)


def test_copies_of_parts_leave_the_rest():
    target = put(np.zeros((4, 6), np.float32))
    gpu_ops().copy(put(numbers((2, 3)))[:, ::2], target[1:3, 2:6:3])
    want = np.zeros((4, 6))
    want[1:3, 2:6:3] = numbers((2, 3))[:, ::2]
    np.testing.assert_array_equal(get(target), want)
    gpu_ops().copy(target[:0], target[:0])
    gpu_ops().copy(target, target)
    np.testing.assert_array_equal(get(target), want)


def test_scratch_never_moves_under_a_graph():
    scratch = Scratch(gpu_ops().memory)
    first = scratch.take("a", (4, 3), np.float32)
    assert first.shape == (4, 3)
    assert pointer(scratch.take("a", (5,), np.float64)) == pointer(first)
    assert pointer(scratch.take("b", (4, 3), np.float32)) != pointer(first)
    larger = scratch.take("a", (100,), np.float32)
    assert pointer(larger) != pointer(first)
    # The old piece is kept: what was recorded with it is still its own.
    others = [gpu_ops().memory.zeros(12, np.float32) for _ in range(8)]
    assert pointer(first) not in [pointer(other) for other in others]
    assert scratch.take("c", (0,), np.float32).size == 0


def test_alike_gives_one_order_and_writes_back():
    ops = gpu_ops()
    x, y = put(numbers(), LAST), put(np.zeros(SHAPE, np.float32))
    with ops.alike([x, None], [y, None]) as ((one, nothing), (out, no_out)):
        assert nothing is None is no_out
        # The first dense array is that which is written.
        assert pointer(out) == pointer(y)
        assert one.shape == out.shape == (120,)
        ops.copy(one, out)
    np.testing.assert_array_equal(get(y), numbers())


def test_alike_in_place():
    ops = gpu_ops()
    whole = put(numbers((2, 4, 6)))
    part = whole[:, 1:3, ::2]
    dense = put(np.full(part.shape, 5, np.float32))
    with ops.alike([part, dense], [part]) as ((x, other), (out,)):
        assert pointer(x) == pointer(out) != pointer(part)
        ops.copy(other, out)
    want = numbers((2, 4, 6))
    want[:, 1:3, ::2] = 5
    np.testing.assert_array_equal(get(whole), want)


def test_alike_of_a_given_order():
    ops = gpu_ops()
    x, y = put(numbers()), put(np.zeros(SHAPE, np.float32), LAST)
    with ops.alike([x], [y], order=(0, 1, 2, 3)) as ((one,), (out,)):
        assert pointer(one) == pointer(x)
        assert pointer(out) != pointer(y)
        ops.copy(one, out)
    np.testing.assert_array_equal(get(y), numbers())
