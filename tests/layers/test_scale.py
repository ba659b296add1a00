"""Scale and Bias: which shapes fit."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import PoseidonError, ShapeError
from tests.layers.harness import build

X = (2, 3, 4, 5)


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", (3,)),
        ("num_axes: 2", (3, 4)),
        ("axis: 0 num_axes: -1", X),
        ("axis: -1", (5,)),
        ("num_axes: 0", ()),
    ],
)
def test_parameter_shapes(kind, text, shape):
    run = build(kind, f"{kind.lower()}_param {{ {text} }}", [X])
    assert [blob.shape for blob in run.layer.blobs] == [shape]
    assert (run.layer.blobs[0].data == (kind == "Scale")).all()


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("axis: 3 num_axes: 2", [], "exceeds"),
        ("axis: 9", [], "out of range"),
        ("num_axes: -2", [], "num_axes"),
        ("", [(4,)], "does not fit"),
        ("axis: 3", [(5, 2)], "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(kind, text, more, message):
    with pytest.raises(PoseidonError, match=message):
        build(kind, f"{kind.lower()}_param {{ {text} }}", [X, *more])


def test_the_parameter_must_go_on_fitting():
    run = build("Scale", "", [X])
    run.bottom[0].reshape((2, 4, 4, 5))
    with pytest.raises(ShapeError, match=r"\(3,\) does not fit"):
        run.reshape()


def test_two_bottoms_and_a_bias_have_one_parameter():
    run = build("Scale", "scale_param { bias_term: true }", [X, (3,)])
    assert [blob.shape for blob in run.layer.blobs] == [(3,)]
    run.bottom[0].data[...] = 2
    run.bottom[1].data[...] = [1, 2, 3]
    run.layer.blobs[0].data[...] = [0, 1, 0]
    assert run.forward()[0][0, :, 0, 0].tolist() == [2, 5, 6]


def test_no_copy_is_kept_where_backward_never_comes():
    run = build("Scale", "scale_param { filler { value: 3 } }", [X], in_place=True)
    run.layer.will_backward = False
    run.bottom[0].data[...] = 2
    np.testing.assert_array_equal(run.forward()[0], np.full(X, 6))
    run.layer.skip_forward = True
    np.testing.assert_array_equal(run.forward()[0], np.full(X, 6))
