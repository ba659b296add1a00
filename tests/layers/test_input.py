"""Input and DummyData."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def test_input_keeps_what_the_user_sets():
    run = build("Input", "input_param { shape { dim: 2 dim: 3 } }", num_top=2)
    assert [top.shape for top in run.top] == [(2, 3), (2, 3)]
    run.top[0].reshape((5, 3))
    run.top[0].data[...] = 8
    run.reshape()
    assert (run.forward()[0] == np.full((5, 3), 8)).all()


def test_input_shapes_are_one_or_all():
    two = "input_param { shape { dim: 2 } shape { dim: 3 } }"
    assert [t.shape for t in build("Input", two, num_top=2).top] == [(2,), (3,)]
    with pytest.raises(LayerError, match="2 shapes for 3 tops"):
        build("Input", two, num_top=3)


def dummy(text, num_top=1, seed=1):
    return build("DummyData", f"dummy_data_param {{ {text} }}", num_top=num_top,
                 seed=seed)  # fmt: skip


def test_constants_are_filled_once_and_random_tops_each_time():
    text = 'shape { dim: 50 } data_filler { value: 2 } data_filler { type: "uniform" }'
    run = dummy(text, 2)
    first = run.forward()
    assert (first[0] == 2).all()
    run.top[0].data[...] = 3
    second = run.forward()
    assert (second[0] == 3).all()
    assert (first[1] != second[1]).any()
    again = dummy(text, 2)
    np.testing.assert_array_equal(again.forward()[1], first[1])
    again.layer.restore_state(run.layer.state())
    np.testing.assert_array_equal(again.forward()[1], run.forward()[1])


def test_old_shape_fields():
    run = dummy("num: 2 num: 5 channels: 3 height: 4 width: 1", 2)
    assert [top.shape for top in run.top] == [(2, 3, 4, 1), (5, 3, 4, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "num: 1 channels: 1 height: 1",
        "shape { dim: 1 } num: 1 channels: 1 height: 1 width: 1",
        "shape { dim: 1 } shape { dim: 1 }",
        "shape { dim: 1 } data_filler { } data_filler { }",
    ],
)
def test_bad_dummies_are_refused(text):
    with pytest.raises(LayerError):
        dummy(text)
