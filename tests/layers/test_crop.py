"""Crop's offsets and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build

SHAPE = (2, 3, 6, 7)


def crop(text, size, shape=SHAPE):
    run = build("Crop", f"crop_param {{ {text} }}", [shape, size])
    run.bottom[0].data[...] = np.arange(run.bottom[0].count).reshape(shape)
    return run


@pytest.mark.parametrize(
    ("text", "size", "part"),
    [
        ("", (9, 9, 4, 5), np.s_[:, :, :4, :5]),
        ("offset: 2", (1, 1, 4, 5), np.s_[:, :, 2:6, 2:7]),
        ("offset: 2 offset: 1", (1, 1, 4, 5), np.s_[:, :, 2:6, 1:6]),
        ("axis: 1 offset: 1 offset: 0 offset: 3", (1, 2, 6, 3), np.s_[:, 1:3, :, 3:6]),
        ("axis: 0", (1, 1, 1, 1), np.s_[:1, :1, :1, :1]),
        ("axis: -2 offset: 1", (1, 1, 5, 6), np.s_[:, :, 1:, 1:]),
        ("axis: 3", (1, 1, 1, 2, 8), np.s_[:, :, :, :2]),
    ],
)
def test_takes_the_part_and_gives_it_back(text, size, part):
    run = crop(text, size)
    x = run.bottom[0].data
    np.testing.assert_array_equal(run.forward()[0], x[part])
    run.bottom[0].diff[...] = np.nan
    run.top[0].diff[...] = 5
    expected = np.zeros(SHAPE)
    expected[part] = 5
    np.testing.assert_array_equal(run.backward([True, False])[0], expected)


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("offset: 1 offset: 1 offset: 1", (2, 3, 4, 4), "3 offsets for the 2 axes"),
        ("offset: 3", (2, 3, 4, 4), "cannot take 4 elements from 3 on of axis 2"),
        ("", (2, 3, 7, 7), "cannot take 7 elements"),
        ("", (2, 3, 4), "must have 4 axes"),
        ("axis: 4", (2, 3, 4, 4), "axis 4 is out of range"),
    ],
)
def test_bad_settings_are_refused(text, size, message):
    with pytest.raises((LayerError, ShapeError), match=message):
        crop(text, size)


def test_what_gives_the_size_gets_no_gradient():
    run = crop("offset: 2", (2, 3, 4, 4))
    run.bottom[1].diff[...] = np.nan
    assert (run.backward([False, True])[1] == 0).all()


def test_the_size_may_change():
    run = crop("offset: 1", (2, 3, 4, 4))
    run.bottom[1].reshape((2, 3, 2, 3))
    run.reshape()
    assert run.top[0].shape == (2, 3, 2, 3)
