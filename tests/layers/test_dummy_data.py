"""When DummyData fills its tops, and what it refuses."""

from __future__ import annotations

import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build

SHAPE = "shape { dim: 2 dim: 3 }"


def dummy(text, tops=1):
    return build("DummyData", f"dummy_data_param {{ {text} }}", [], num_top=tops)


def test_constants_are_there_before_the_first_forward():
    run = dummy(
        f'{SHAPE} data_filler {{ value: 7 }} data_filler {{ type: "uniform" min: 1 }}',
        2,
    )
    assert (run.top[0].data == 7).all()
    assert (run.top[1].data == 0).all()
    run.top[0].data[...] = 5
    run.forward()
    assert (run.top[0].data == 5).all(), "a script's own values stay"
    assert (run.top[1].data != 0).all()


def test_a_reshaped_constant_is_filled_again():
    run = dummy(f"{SHAPE} data_filler {{ value: 7 }}")
    run.top[0].reshape((4, 5))
    assert (run.forward()[0] == 7).all()


def test_old_dimensions_once_or_for_each_top():
    run = dummy("num: 2 channels: 3 channels: 4 height: 1 width: 5", 2)
    assert [top.shape for top in run.top] == [(2, 3, 1, 5), (2, 4, 1, 5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SHAPE} num: 1", "not both"),
        ("num: 1 channels: 2", "once or for each"),
        ("", "0 shapes for 3 tops"),
        (f"{SHAPE} {SHAPE}", "2 shapes for 3 tops"),
        (f"{SHAPE} data_filler {{ }} data_filler {{ }}", "2 data_filler for 3 tops"),
        (f'{SHAPE} data_filler {{ type: "gauss" }}', "unknown filler"),
    ],
)
def test_contradictions_are_refused(text, said):
    with pytest.raises(LayerError, match=said):
        dummy(text, 3)
