from __future__ import annotations

import dataclasses

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.data.window_crop import crop_window
from poseidon_caffe.data.window_file import Box
from poseidon_caffe.errors import DataError


def box(x1, y1, x2, y2):
    return Box(0, 1, x1, y1, x2, y2)


def numbers(crop):
    flat = [crop.rows.start, crop.rows.stop, crop.columns.start, crop.columns.stop]
    return (*flat, crop.height, crop.width, crop.top, crop.left)


def test_a_plain_warp_cuts_the_window_itself():
    crop = crop_window(box(3, 4, 10, 20), 50, 60, 16)
    assert numbers(crop) == (4, 21, 3, 11, 16, 16, 0, 0)


def test_surroundings_widen_the_window():
    # 12/(12 - 2*2) = 1.5; halves 5 and 10 become 7.5 and 15 around (15, 20): the
    # corners 7.5, 22.5 round away from zero; 5 and 35 are whole.
    crop = crop_window(box(10, 10, 19, 29), 100, 100, 12, context_pad=2)
    assert numbers(crop) == (5, 36, 8, 24, 12, 12, 0, 0)


def test_negative_halves_round_away_from_zero():
    # Around x = 5: 5 - 7.5 = -2.5 is -3, 12.5 is 13: 17 columns, 3 of them outside.
    crop = crop_window(box(0, 10, 9, 29), 100, 100, 12, context_pad=2)
    assert numbers(crop) == (5, 36, 0, 14, 12, 10, 0, 2)


def test_a_mirrored_crop_has_its_padding_on_the_other_side():
    right = crop_window(box(0, 10, 9, 29), 100, 100, 12, context_pad=2, mirror=True)
    assert (right.width, right.left) == (10, 0)
    crop = crop_window(box(90, 10, 99, 29), 100, 100, 12, context_pad=2)
    # 95 - 7.5 and 95 + 7.5: columns 88 to 103, 4 of 16 outside.
    assert numbers(crop) == (5, 36, 88, 100, 12, 9, 0, 0)
    left = crop_window(box(90, 10, 99, 29), 100, 100, 12, context_pad=2, mirror=True)
    assert left == dataclasses.replace(crop, left=3)


def test_a_square_keeps_the_shape():
    # Halves 5 and 10 become 10 and 10 around (15, 20).
    crop = crop_window(box(10, 10, 19, 29), 100, 100, 8, square=True)
    assert numbers(crop) == (10, 31, 5, 26, 8, 8, 0, 0)


def test_rounding_never_makes_it_too_large():
    # 3 of 8 rows lie above: 3 * 4/8 = 1.5 is 2, and 5 * 4/8 = 2.5 would be 3.
    crop = crop_window(box(0, -3, 6, 3), 50, 50, 4, square=True)
    assert crop.top == 2
    assert crop.height == 2


@hypothesis.settings(deadline=None, max_examples=300)
@given(
    st.tuples(st.integers(-5, 45), st.integers(-5, 35)),
    st.tuples(st.integers(-4, 50), st.integers(-4, 40)),
    st.integers(3, 30),
    st.integers(0, 14),
    st.booleans(),
    st.booleans(),
)
def test_crops_lie_in_image_and_result(corner, size, side, pad, square, mirror):
    if 2 * pad >= side:
        return
    x1, y1 = corner
    window = box(x1, y1, x1 + size[0], y1 + size[1])
    try:
        crop = crop_window(
            window, 40, 50, side, context_pad=pad, square=square, mirror=mirror
        )
    except DataError:
        return
    assert 0 <= crop.rows.start < crop.rows.stop <= 40
    assert 0 <= crop.columns.start < crop.columns.stop <= 50
    assert 0 <= crop.top <= crop.top + crop.height <= side
    assert 0 <= crop.left <= crop.left + crop.width <= side
    assert crop.height >= 1
    assert crop.width >= 1


@pytest.mark.parametrize(
    "corners", [(-1, 0, 5, 5), (0, 0, 50, 5), (0, 0, 5, 40), (6, 0, 5, 5)]
)
def test_without_surroundings_windows_lie_inside(corners):
    with pytest.raises(DataError, match=r"cannot be cut from an image of 40x50"):
        crop_window(box(*corners), 40, 50, 8)


@pytest.mark.parametrize("corners", [(70, 0, 80, 20), (20, 9, 16, 20)])
def test_a_window_beyond_the_image_or_the_wrong_way_round(corners):
    with pytest.raises(DataError, match="cannot be cut"):
        crop_window(box(*corners), 40, 50, 8, context_pad=1)
