"""ArgMax: shapes and ties."""

from __future__ import annotations

import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def best(text, values, shape):
    run = build("ArgMax", f"argmax_param {{ {text} }}", [shape])
    run.bottom[0].data.reshape(-1)[...] = values
    return run.forward()[0]


def test_ties_go_to_the_larger_index_first():
    y = best("top_k: 3", [1, 5, 5, 0, 5], (1, 5))
    assert y.tolist() == [[[4, 2, 1]]]


def test_values_with_indices():
    y = best("top_k: 2 out_max_val: true", [1, 7, 5], (1, 3))
    assert y.tolist() == [[[1, 2], [7, 5]]]


def test_values_along_an_axis():
    y = best("axis: 0 out_max_val: true", [1, 7, 5, 2], (2, 2))
    assert y.tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("shape", "top"), [((3,), (3, 1, 1)), ((2, 3, 4, 5, 6), (2, 1, 1, 1, 1))]
)
def test_shapes(shape, top):
    assert build("ArgMax", "", [shape]).top[0].shape == top


@pytest.mark.parametrize("top_k", [0, 4])
def test_top_k_must_fit(top_k):
    with pytest.raises(LayerError, match=r"top_k must be in 1\.\.3"):
        build("ArgMax", f"argmax_param {{ top_k: {top_k} }}", [(2, 3)])
