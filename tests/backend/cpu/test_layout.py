from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.layout import alike, dense, describable, supported
from tests.backend.cpu.conftest import inside, stored

SHAPE = (2, 16, 4, 5)
PLAIN = stored(np.ones(SHAPE), channels_last=False)
LAST = stored(np.ones(SHAPE))
SLICE = inside(np.ones(SHAPE))


@pytest.mark.parametrize(
    ("array", "is_dense"),
    [
        (PLAIN, True),
        (LAST, True),
        (PLAIN.transpose(3, 0, 2, 1), True),
        (SLICE, False),
        (PLAIN[:, 2:7], False),
        (PLAIN[:1, 2:7], True),
        (PLAIN[1:], True),
        (PLAIN[::2], True),
        (PLAIN[:, ::2], False),
        (PLAIN[:, :, :, :1], False),
        (np.broadcast_to(np.float32(1), SHAPE), False),
        (PLAIN[::-1], False),
        (PLAIN[:, ::-1], False),
        (np.ones((), np.float32), True),
        (PLAIN.astype(np.float64), False),
        (PLAIN.astype(np.float16), False),
    ],
)
def test_dense_is_one_piece_without_gaps(array, is_dense):
    assert dense(array) is is_dense


def test_alike_is_the_same_order_of_the_same_shape():
    assert alike(PLAIN)
    assert alike(PLAIN, PLAIN.copy(), PLAIN)
    assert alike(LAST, LAST.copy(order="K"))
    assert not alike(PLAIN, LAST)
    assert not alike(LAST, LAST, SLICE)
    assert not alike(SLICE, SLICE)
    assert not alike(PLAIN, PLAIN.astype(np.float64))
    assert not alike(PLAIN, PLAIN[:1])
    assert not alike(PLAIN[:0], PLAIN[:0])


def test_axes_of_length_one_do_not_count():
    plain = stored(np.ones((2, 16, 1, 1)), channels_last=False)
    last = stored(np.ones((2, 16, 1, 1)))
    odd = np.lib.stride_tricks.as_strided(plain, strides=(64, 4, 4000, 8))
    assert alike(plain, last, odd)
    assert dense(odd)


def test_describable_is_float32_of_four_or_five_axes():
    assert describable(PLAIN, LAST, SLICE, np.ones((1, 2, 3, 4, 5), np.float32))
    assert not describable(PLAIN, np.ones((3, 4), np.float32))
    assert not describable(np.ones((3, 4, 5), np.float32))
    assert not describable(PLAIN, PLAIN[:0])
    assert not describable(PLAIN.astype(np.float64))


def test_supported_is_describable_and_dense():
    assert supported(PLAIN, LAST)
    assert not supported(PLAIN, SLICE)
    assert not supported(np.ones((3, 4), np.float32))
