"""Flatten and Reshape: shapes, sharing and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def shaped(dims, more="", bottom=(2, 3, 4, 5), **options):
    text = " ".join(f"dim: {d}" for d in dims)
    param = f"reshape_param {{ shape {{ {text} }} {more} }}"
    return build("Reshape", param, [bottom], **options)


@pytest.mark.parametrize(
    ("dims", "more", "top"),
    [
        ((0, -1), "", (2, 60)),
        ((0, 0, -1), "", (2, 3, 20)),
        ((-1, 6), "axis: 1 num_axes: 2", (2, 2, 6, 5)),
        ((-1,), "", (120,)),
        ((1, 1), "axis: 1 num_axes: 0", (2, 1, 1, 3, 4, 5)),
        ((1,), "axis: -1 num_axes: 0", (2, 3, 4, 5, 1)),
        ((20,), "axis: -3", (2, 3, 20)),
        ((2, 2, 5), "axis: 2", (2, 3, 2, 2, 5)),
    ],
)
def test_shapes_are_caffes(dims, more, top):
    assert shaped(dims, more).top[0].shape == top


@pytest.mark.parametrize(
    ("dims", "more", "message"),
    [
        ((-1, -1), "", "one -1"),
        ((-2, 1), "", "one -1"),
        ((7, -1), "", "do not divide"),
        ((0, 7), "", "120 elements"),
        ((0, 0, 0, 0, 0), "", "no axis to copy"),
        ((1,), "axis: 9", "out of range"),
        ((1,), "axis: 2 num_axes: 3", "out of range"),
    ],
)
def test_bad_shapes_are_refused(dims, more, message):
    with pytest.raises(LayerError, match=message):
        shaped(dims, more)


def test_an_empty_batch_keeps_the_rest():
    assert shaped((0, -1, 2), bottom=(0, 3, 4)).top[0].shape == (0, 6, 2)


@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_plain_memory_is_shared_and_channels_last_copied(kind):
    text = "reshape_param { shape { dim: 0 dim: -1 } }" if kind == "Reshape" else ""
    for channels_last in (False, True):
        run = build(kind, text, [(2, 3, 4, 5)], channels_last=channels_last)
        x = np.arange(120).reshape(2, 3, 4, 5)
        run.bottom[0].data[...] = x
        np.testing.assert_array_equal(run.forward()[0], x.reshape(2, 60))
        shares = np.shares_memory(run.top[0].data, run.bottom[0].data)
        assert shares != channels_last
        run.top[0].diff[...] = x.reshape(2, 60)
        np.testing.assert_array_equal(run.backward()[0], x)


def test_sharing_ends_when_the_bottom_is_no_longer_plain():
    run = build("Flatten", "", [(2, 3, 1, 1)], channels_last=True)
    assert np.shares_memory(run.top[0].data, run.bottom[0].data)
    run.bottom[0].reshape((2, 3, 2, 2))
    run.reshape()
    x = np.arange(24).reshape(2, 3, 2, 2)
    run.bottom[0].data[...] = x
    assert not np.shares_memory(run.top[0].data, run.bottom[0].data)
    np.testing.assert_array_equal(run.forward()[0], x.reshape(2, 12))


@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_not_in_place(kind):
    with pytest.raises(LayerError, match="in place"):
        build(kind, "", [(2, 3)], in_place=True)


@pytest.mark.parametrize(
    ("text", "top"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: 1 end_axis: 2", (2, 12, 5)),
        ("axis: -2", (2, 3, 20)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
    ],
)
def test_flatten_joins_axes(text, top):
    run = build("Flatten", f"flatten_param {{ {text} }}", [(2, 3, 4, 5)])
    assert run.top[0].shape == top


def test_flatten_needs_axes_in_order():
    with pytest.raises(LayerError, match="end_axis"):
        build("Flatten", "flatten_param { axis: 2 end_axis: 0 }", [(2, 3, 4)])


def test_axes_are_copied_from_behind_those_replaced():
    text = "reshape_param { axis: 0 num_axes: 1 shape { dim: 0 dim: 0 %s } }"
    assert build("Reshape", text % "", [(2, 1, 4)]).top[0].shape == (2, 1, 1, 4)
    text = "reshape_param { axis: 0 num_axes: 1 shape { dim: -1 dim: 0 } }"
    assert build("Reshape", text, [(6, 3)]).top[0].shape == (2, 3, 3)
    with pytest.raises(LayerError, match="do not divide"):
        build("Reshape", text, [(4, 3)])
