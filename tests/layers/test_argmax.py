"""ArgMax: shapes and ties."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
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


def by_hand(row, top_k):
    """(index, value) pairs, the largest first, of equal ones the later first."""
    ordered = sorted(((float(v), i) for i, v in enumerate(row)), reverse=True)
    return [(i, v) for v, i in ordered[:top_k]]


@pytest.mark.parametrize("low", [0, -np.inf])
@pytest.mark.parametrize("top_k", [1, 2, 5, 12])
@pytest.mark.parametrize("values", [False, True])
def test_without_an_axis(values, top_k, low, cpu):
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (4, 3, 2, 2)).astype(float)
    x[x == -2] = low
    text = f"argmax_param {{ top_k: {top_k} out_max_val: {str(values).lower()} }}"
    for ops in (None, cpu):
        run = build("ArgMax", text, [x.shape], ops=ops)
        run.bottom[0].data[...] = x
        y = run.forward()[0]
        assert y.shape == (4, 2 if values else 1, top_k, 1)
        for n in range(4):
            want = by_hand(x[n].reshape(-1), top_k)
            assert y[n, 0, :, 0].tolist() == [i for i, _ in want]
            if values:
                assert y[n, 1, :, 0].tolist() == [v for _, v in want]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("values", [False, True])
def test_along_an_axis(axis, top_k, values, cpu):
    x = np.random.default_rng(2).integers(0, 4, (3, 5, 4, 6)).astype(float)
    text = f"axis: {axis} top_k: {top_k} out_max_val: {str(values).lower()}"
    want = np.apply_along_axis(
        lambda row: [pair[values] for pair in by_hand(row, top_k)], axis, x
    )
    for ops in (None, cpu):
        run = build("ArgMax", f"argmax_param {{ {text} }}", [x.shape], ops=ops)
        run.bottom[0].data[...] = x
        np.testing.assert_array_equal(run.forward()[0], want)


def test_many_best_of_more_go_through_a_sort():
    x = np.random.default_rng(3).integers(0, 9, 40)
    y = best("top_k: 20", x, (1, 40))
    assert y[0, 0].tolist() == [i for i, _ in by_hand(x, 20)]


def test_a_smaller_bottom_must_still_have_so_many():
    run = build("ArgMax", "argmax_param { top_k: 3 }", [(2, 3)])
    run.bottom[0].reshape((2, 2))
    with pytest.raises(LayerError, match=r"1\.\.2"):
        run.reshape()


def test_a_scalar_has_no_samples():
    with pytest.raises(ShapeError, match="one axis"):
        build("ArgMax", "", [()])
