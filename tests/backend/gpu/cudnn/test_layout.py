from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn.layout import (
    Layout,
    common_layout,
    dense_strides,
    layouts_of,
    padded_axes,
)


def of(array):
    return layouts_of(array.shape, array.strides, array.itemsize)


def last(*shape):
    """A channels-last array."""
    order = [0, *range(2, len(shape)), 1]
    return np.zeros([shape[i] for i in order], np.float32).transpose(np.argsort(order))


def test_missing_axes_come_before_the_last_spatial_one():
    assert padded_axes((2, 3)) == (2, 3, 1, 1)
    assert padded_axes((2, 3, 5)) == (2, 3, 1, 5)
    assert padded_axes((2, 3, 4, 5, 6)) == (2, 3, 4, 5, 6)


def test_plain_and_channels_last():
    assert of(np.zeros((2, 3, 4, 5))) == (Layout((2, 3, 4, 5), (60, 20, 5, 1), False),)
    assert of(last(2, 3, 4, 5)) == (Layout((2, 3, 4, 5), (60, 1, 15, 3), True),)
    assert of(last(2, 3, 4, 5, 6)) == (
        Layout((2, 3, 4, 5, 6), (360, 1, 90, 18, 3), True),
    )
    assert of(np.zeros((2, 3, 5))) == (Layout((2, 3, 1, 5), (15, 5, 5, 1), False),)
    assert of(last(2, 3, 5)) == (Layout((2, 3, 1, 5), (15, 1, 15, 3), True),)


def test_strides_of_axes_of_length_one_do_not_matter():
    odd = np.lib.stride_tricks.as_strided(
        np.zeros(12, np.float32), (1, 3, 4, 1), (4, 16, 4, 400)
    )
    assert of(odd) == (Layout((1, 3, 4, 1), (12, 4, 1, 1), False),)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 1, 4, 5), (2, 3)])
def test_one_place_or_one_channel_is_both(shape):
    both = of(np.zeros(shape, np.float32))
    assert [each.channels_last for each in both] == [False, True]
    dims = padded_axes(shape)
    assert both[0].strides == dense_strides(dims, channels_last=False)
    assert both[1].strides == dense_strides(dims, channels_last=True)


def test_a_slice_of_channels_is_plain_with_gaps_but_not_channels_last():
    assert of(np.zeros((2, 6, 4, 5))[:, 2:5]) == (
        Layout((2, 3, 4, 5), (120, 20, 5, 1), False),
    )
    assert of(last(2, 6, 4, 5)[:, 2:5]) == ()


def test_what_cannot_be_described():
    assert of(np.zeros((0, 3, 4, 5))) == ()
    assert of(np.zeros((2, 3, 4, 10))[..., ::2]) == ()
    assert of(np.zeros((2, 3, 4, 5))[:, :, ::-1]) == ()
    assert of(np.zeros(3)) == ()
    assert of(np.broadcast_to(np.zeros((1, 3, 4, 5)), (2, 3, 4, 5))) == ()
    huge = 1 << 30
    assert layouts_of((2, 1, 1, huge), (4 * huge, 4 * huge, 4 * huge, 4), 4) == ()


def test_a_common_layout_is_the_one_that_all_have():
    plain, channels = np.zeros((2, 3, 4, 5), np.float32), last(2, 3, 4, 5)
    either = np.zeros((2, 7, 1, 1), np.float32)
    assert [each.channels_last for each in common_layout(either, channels)] == [
        True
    ] * 2
    assert [each.channels_last for each in common_layout(plain, either)] == [False] * 2
    assert not any(each.channels_last for each in common_layout(either, either))
    assert common_layout(plain, channels) is None
