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


def layouts(pixels):
    """(H, W, C) as the decoders give it, with the colours turned, and by channel."""
    planes = pixels.transpose(2, 0, 1)
    return planes, planes[::-1], np.ascontiguousarray(planes)


def by_opencv(image, height, width):
    cv2 = pytest.importorskip("cv2")
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    out = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return out.reshape(height, width, -1).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((256, 256), (227, 227)),
        ((375, 500), (256, 256)),
        ((64, 48), (128, 96)),
        ((300, 200), (150, 100)),  # OpenCV averages four pixels
        ((31, 257), (211, 17)),
        ((500, 3), (1, 300)),
        ((1, 1), (70, 3)),
        ((2, 90), (129, 1)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_is_opencvs_to_the_bit(size, wanted, channels):
    generator = np.random.default_rng(sum(size))
    for image in layouts(generator.integers(0, 256, (*size, channels), np.uint8)):
        found = resize(image, *wanted)
        np.testing.assert_array_equal(found, by_opencv(image, *wanted))


def test_is_opencvs_at_many_sizes():
    generator = np.random.default_rng(1)
    for _ in range(300):
        height, width, *wanted = generator.integers(1, 70, 4).tolist()
        image = generator.integers(0, 256, (3, height, width), np.uint8)
        found = resize(image, *wanted)
        np.testing.assert_array_equal(found, by_opencv(image, *wanted))


def test_each_layout_keeps_its_memory():
    pixels = np.zeros((8, 9, 3), np.uint8)
    decoded, turned, planes = (resize(image, 4, 5) for image in layouts(pixels))
    assert decoded.transpose(1, 2, 0).flags.c_contiguous
    assert turned[::-1].transpose(1, 2, 0).flags.c_contiguous
    assert planes.flags.c_contiguous


def test_a_part_of_an_image():
    image = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    for part in (p[:, 3:30, 7:31] for p in layouts(image)):
        np.testing.assert_array_equal(resize(part, 16, 16), by_opencv(part, 16, 16))


@pytest.mark.parametrize("index", range(13))
def test_equals_opencv(index, golden):
    """The golden LMDB holds the golden images as OpenCV resized them."""
    database = open_db(str(golden / "data" / "raw_lmdb"))
    stored = decode(parse_datum(database.record(index)))
    name = database.key(index).decode().partition("_")[2]
    database.close()
    image = read_image(golden / "data" / "images" / name)
    np.testing.assert_array_equal(resize(image, 20, 24), stored)


def test_same_size_is_the_same_image():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 4), np.uint8)
    np.testing.assert_array_equal(resize(image[::-1], 5, 4), image[::-1])


@pytest.mark.parametrize("size", [(0, 3), (3, -1)])
def test_impossible_sizes(size):
    with pytest.raises(DataError, match="cannot be resized"):
        resize(np.zeros((1, 2, 2), np.uint8), *size)
