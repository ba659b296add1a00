"""Slice's points."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def cut(text, tops, shape=(1, 6)):
    return build("Slice", f"slice_param {{ {text} }}", [shape], num_top=tops)


def test_points_cut_before_them():
    run = cut("slice_point: 1 slice_point: 4", 3)
    run.bottom[0].data[...] = [range(6)]
    assert [y.tolist() for y in run.forward()] == [[[0]], [[1, 2, 3]], [[4, 5]]]
    run.set_top_diffs([np.array(i) for i in range(3)])
    assert run.backward()[0].tolist() == [[0, 1, 1, 1, 2, 2]]


def test_without_points_parts_are_equal():
    assert [top.shape for top in cut("", 3).top] == [(1, 2)] * 3


def test_a_single_top_is_shared():
    run = cut("", 1)
    run.bottom[0].data[...] = 3
    assert (run.top[0].data == 3).all()


@pytest.mark.parametrize(
    ("text", "tops", "message"),
    [
        ("", 4, "equal parts"),
        ("slice_point: 1", 3, "1 slice_point for 3 tops"),
        ("slice_point: 4 slice_point: 1", 3, "ascend"),
        ("slice_point: 0", 2, "ascend"),
        ("slice_point: 7", 2, "exceeds"),
        ("slice_point: 5 slice_point: 6", 7, "for 7 tops"),
        ("axis: 1 slice_dim: 1", 2, "slice_dim"),
    ],
)
def test_bad_cuts_are_refused(text, tops, message):
    with pytest.raises(LayerError, match=message):
        cut(text, tops)


def test_the_last_part_may_be_empty():
    run = cut("slice_point: 2 slice_point: 6", 3)
    assert [top.shape for top in run.top] == [(1, 2), (1, 4), (1, 0)]
    run.bottom[0].data[...] = [range(6)]
    assert [y.tolist() for y in run.forward()] == [[[0, 1]], [[2, 3, 4, 5]], [[]]]
    with pytest.raises(LayerError, match="exceeds"):
        cut("slice_point: 1 slice_point: 2", 3, (1, 2))
