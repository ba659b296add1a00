from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from poseidon_caffe.caffe.interpolation import spline, warp, zoom
from poseidon_caffe.errors import PoseidonError

RNG = np.random.default_rng(5)


def _kernel(order, x):
    """How much a pixel at distance ``x`` counts, by the textbooks' formulas."""
    x = abs(x)
    if order == 1:
        return max(0.0, 1 - x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def _slowly(image, size, order, place):
    """Pixel by pixel: a sum over all pixels of the image; nothing beyond it."""
    out = np.zeros((*size, image.shape[2]))
    for row, column in itertools.product(*map(range, size)):
        y = place(row, image.shape[0], size[0])
        x = place(column, image.shape[1], size[1])
        for i, j in itertools.product(*map(range, image.shape[:2])):
            weight = _kernel(order, y - i) * _kernel(order, x - j)
            out[row, column] += weight * image[i, j]
    return out


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("size", [(3, 4), (6, 5), (9, 13), (1, 1), (2, 11)])
def test_warp(size, order):
    image = RNG.random((6, 5, 2))
    expected = _slowly(
        image, size, order, lambda i, old, new: (i + 0.5) * old / new - 0.5
    )
    if order == 3:
        expected = expected.clip(0, 1)
    np.testing.assert_allclose(warp(image, size, order), expected, atol=1e-12)


def test_warp_to_the_nearest():
    image = np.arange(6.0).reshape(1, 6, 1) / 10
    np.testing.assert_array_equal(warp(image, (1, 2), 0)[0, :, 0] * 10, [1, 4])
    np.testing.assert_array_equal(
        warp(image, (2, 12), 0)[1, :, 0], np.repeat(image[0, :, 0], 2)
    )


@pytest.mark.parametrize("size", [(3, 4), (6, 5), (9, 13), (1, 1), (2, 11)])
def test_zoom(size):
    def place(i, old, new):
        return i * (old - 1) / (new - 1) if new > 1 else 0

    image = RNG.standard_normal((6, 5, 2))
    expected = _slowly(image, size, 1, place)
    np.testing.assert_allclose(zoom(image, size, 1), expected, atol=1e-12)


def test_zoom_keeps_corners_and_rounds_integers():
    image = RNG.integers(0, 256, (7, 9, 4)).astype(np.uint8)
    for size in ((3, 3), (50, 61), (7, 9)):
        out = zoom(image, size, 1)
        np.testing.assert_array_equal(out[0, 0], image[0, 0])
        np.testing.assert_array_equal(out[-1, -1], image[-1, -1])
        np.testing.assert_array_equal(out, np.rint(out))


def test_splines_need_scipy(monkeypatch):
    image = RNG.random((6, 6, 4))
    monkeypatch.setitem(sys.modules, "scipy", None)
    for run in (zoom, spline):
        with pytest.raises(PoseidonError, match="pip install scipy"):
            run(image, (3, 3), 2)


@pytest.mark.parametrize("order", [2, 4, 5])
def test_splines_meet_the_pixels(order):
    pytest.importorskip("scipy")
    image = RNG.random((8, 7, 2))
    np.testing.assert_allclose(spline(image, (8, 7), order), image, atol=1e-9)
    np.testing.assert_allclose(zoom(image, (15, 13), order)[::2, ::2], image, atol=1e-9)
