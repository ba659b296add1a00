"""Concat's axes and sharing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def test_a_single_bottom_is_shared():
    run = build("Concat", "", [(2, 3)])
    run.bottom[0].data[...] = 4
    assert (run.top[0].data == 4).all()
    run.top[0].diff[...] = 5
    assert (run.backward()[0] == 5).all()


def test_axis_is_counted_from_the_end():
    run = build("Concat", "concat_param { axis: -2 }", [(2, 3, 1), (2, 4, 1)])
    assert run.layer.axis == 1
    assert run.top[0].shape == (2, 7, 1)


def test_gradients_go_back_to_their_parts():
    run = build("Concat", "", [(1, 1), (1, 2), (1, 1)])
    run.top[0].diff[...] = [[1, 2, 3, 4]]
    for blob in run.bottom:
        blob.diff[...] = -1
    dx = run.backward([False, True, False])
    assert [d.tolist() for d in dx] == [[[-1]], [[2, 3]], [[-1]]]


def test_both_names_of_the_axis_are_refused():
    with pytest.raises(LayerError, match="concat_dim"):
        build("Concat", "concat_param { axis: 1 concat_dim: 1 }", [(2, 3)])


@pytest.mark.parametrize("other", [(3, 3, 4), (2, 3, 4, 1), (2, 3, 5)])
def test_other_axes_must_agree(other):
    with pytest.raises(ShapeError, match="every axis but 1") as caught:
        build("Concat", "", [(2, 3, 4), other])
    assert str(other) in str(caught.value)


def test_empty_parts_are_fine():
    run = build("Concat", "", [(2, 0), (2, 3)])
    run.bottom[1].data[...] = 1
    np.testing.assert_array_equal(run.forward()[0], np.ones((2, 3)))
