"""Dropout's statistics and its resumable generator."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from poseidon_caffe.types import Phase
from tests.layers.harness import build


def drop(ratio=0.3, **more):
    text = f"dropout_param {{ dropout_ratio: {ratio} }}"
    run = build("Dropout", text, [(100, 100)], **more)
    run.bottom[0].data[...] = 1
    return run


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
def test_drops_so_many_and_keeps_the_mean(ratio):
    run = drop(ratio)
    y = run.forward()[0]
    assert abs((y == 0).mean() - ratio) < 0.02
    np.testing.assert_allclose(y[y != 0], 1 / (1 - ratio), rtol=1e-5)
    run.top[0].diff[...] = 2
    np.testing.assert_allclose(run.backward()[0], 2 * y, rtol=1e-5)
    assert (run.forward()[0] != y).any()


def test_seed_and_name_choose_the_numbers():
    first = drop(seed=5).forward()[0]
    np.testing.assert_array_equal(first, drop(seed=5).forward()[0])
    assert (first != drop(seed=6).forward()[0]).any()


def test_resumes_in_the_middle():
    run = drop()
    run.forward()
    state = json.loads(json.dumps(run.layer.state()))
    later = [run.forward()[0] for _ in range(2)]
    again = drop()
    again.layer.restore_state(state)
    for expected in later:
        np.testing.assert_array_equal(again.forward()[0], expected)


@pytest.mark.parametrize("in_place", [False, True])
def test_does_nothing_in_test(in_place):
    run = drop(phase=Phase.TEST, in_place=in_place)
    assert (run.forward()[0] == 1).all()
    run.top[0].diff[...] = 3
    assert (run.backward()[0] == 3).all()


@pytest.mark.parametrize("ratio", [1, -0.1])
def test_ratio_must_leave_something(ratio):
    with pytest.raises(LayerError, match="dropout_ratio"):
        drop(ratio)
