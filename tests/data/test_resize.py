from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import open_db
from poseidon_caffe.data.image import read_image
from poseidon_caffe.data.resize import resize
from poseidon_caffe.errors import DataError


def expected(image, height, width):
    """Bilinear interpolation pixel by pixel, in floats."""

    def place(i, wanted, size):
        x = min(max((i + 0.5) * size / wanted - 0.5, 0), size - 1)
        low = min(math.floor(x), size - 1)
        return low, min(low + 1, size - 1), x - low

    out = np.empty((image.shape[0], height, width))
    for y in range(height):
        top, bottom, down = place(y, height, image.shape[1])
        for x in range(width):
            left, right, across = place(x, width, image.shape[2])
            above = image[:, top, left] * (1 - across) + image[:, top, right] * across
            below = (
                image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across
            )
            out[:, y, x] = above * (1 - down) + below * down
    return out


sizes = st.integers(1, 12)


@hypothesis.settings(deadline=None)
@given(st.tuples(st.integers(1, 3), sizes, sizes), sizes, sizes, st.integers(0, 99))
def test_is_bilinear_to_a_level(shape, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    out = resize(image, height, width)
    assert out.dtype == np.uint8
    assert np.abs(out - expected(image, height, width)).max() <= 1


@pytest.mark.parametrize("index", range(13))
def test_equals_opencv(index, golden):
    """The golden LMDB holds the golden images as OpenCV resized them."""
    database = open_db(str(golden / "data" / "raw_lmdb"))
    stored = decode(parse_datum(database.record(index)))
    name = database.key(index).decode().partition("_")[2]
    database.close()
    image = read_image(golden / "data" / "images" / name)
    assert np.abs(resize(image, 20, 24).astype(int) - stored).max() <= 1


def test_same_size_is_the_same_image():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 4), np.uint8)
    np.testing.assert_array_equal(resize(image[::-1], 5, 4), image[::-1])


@pytest.mark.parametrize("size", [(0, 3), (3, -1)])
def test_impossible_sizes(size):
    with pytest.raises(DataError, match="cannot be resized"):
        resize(np.zeros((1, 2, 2), np.uint8), *size)
