"""Eltwise's coefficients, ties and fusing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def eltwise(text, count=3, shape=(2, 3)):
    return build("Eltwise", f"eltwise_param {{ {text} }}", [shape] * count)


def test_max_gives_ties_to_the_second_of_the_first_two():
    run = eltwise("operation: MAX", shape=(3,))
    for blob, values in zip(run.bottom, ([1, 1, 0], [1, 0, 1], [1, 1, 1]), strict=True):
        blob.data[...] = values
    run.forward()
    run.top[0].diff[...] = 1
    dx = run.backward()
    assert [d.tolist() for d in dx] == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("count", [2, 3])
def test_max_in_place_keeps_what_backward_reads(count):
    rng = np.random.default_rng(3)
    values = rng.standard_normal((count, 2, 3))
    found = []
    for in_place in (False, True):
        run = eltwise("operation: MAX", count)
        for blob, value in zip(run.bottom, values, strict=True):
            blob.data[...] = value
        top = run.bottom[:1] if in_place else run.top
        run.layer.forward(run.bottom, top)
        top[0].diff[...] = np.arange(6).reshape(2, 3)
        run.layer.backward(top, [True] * count, run.bottom)
        found.append([blob.diff.copy() for blob in run.bottom])
    np.testing.assert_array_equal(*found)


def test_stable_product_has_gradients_at_zero():
    run = eltwise("operation: PROD", shape=(1,))
    for blob, value in zip(run.bottom, (0, 2, 3), strict=True):
        blob.data[...] = value
    run.forward()
    run.top[0].diff[...] = 1
    assert [d.item() for d in run.backward()] == [6, 0, 0]


@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX"])
def test_a_fused_relu_is_the_relu(operation):
    run = eltwise(f"operation: {operation}")
    rng = np.random.default_rng(1)
    for blob in run.bottom:
        blob.data[...] = rng.standard_normal(blob.shape)
    plain = run.forward()[0]
    assert run.layer.can_fuse_relu
    run.layer.fuse_relu(0.0)
    np.testing.assert_allclose(run.forward()[0], np.maximum(plain, 0), rtol=1e-6)


def test_an_unstable_product_needs_its_own_top():
    run = eltwise("operation: PROD stable_prod_grad: false")
    assert not run.layer.can_fuse_relu


@pytest.mark.parametrize(
    "text", ["coeff: 1 coeff: 2", "operation: PROD coeff: 1 coeff: 1 coeff: 1"]
)
def test_bad_coefficients_are_refused(text):
    with pytest.raises(LayerError, match="coeff"):
        eltwise(text)


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match=r"b0: \(2, 3\), b1: \(3, 2\)"):
        build("Eltwise", "", [(2, 3), (3, 2)])


def test_a_maximum_ignores_coefficients():
    run = eltwise("operation: MAX coeff: 1 coeff: -5 coeff: 2")
    for i, blob in enumerate(run.bottom):
        blob.data[...] = i
    assert (run.forward()[0] == 2).all()


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 1), (1, 1, 1), (0, 0, 0)])
@pytest.mark.parametrize("text", ["", "coeff: 1 coeff: 2 coeff: 1", "operation: MAX"])
def test_a_fused_relu_goes_backward_with_it(text, wanted):
    """As the ReLU's own backward and then the Eltwise's."""
    rng = np.random.default_rng(5)
    values, dy = rng.standard_normal((3, 2, 3)), rng.standard_normal((2, 3))
    found = []
    for fused in (False, True):
        run, relu = eltwise(text), build("ReLU", "", [(2, 3)]).layer
        for blob, value in zip(run.bottom, values, strict=True):
            blob.data[...] = value
            blob.diff[...] = 0
        run.layer.fuse_relu(0.25)
        if fused:
            assert run.layer.can_fuse_relu_backward(relu)
            run.layer.fuse_relu_backward(relu)
            assert relu.skip_backward
            assert run.layer.backward_reads_top
        y = run.forward()[0]
        run.top[0].diff[...] = dy if fused else dy * np.where(y > 0, 1, 0.25)
        run.layer.backward(run.top, [bool(w) for w in wanted], run.bottom)
        found.append([blob.diff.copy() for blob in run.bottom])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert np.any(found[1]) == any(wanted)


def test_a_relu_that_does_not_go_backward_is_not_waited_for():
    run, relu = eltwise(""), build("ReLU", "", [(2, 3)]).layer
    assert not run.layer.can_fuse_relu_backward(relu)
    run.layer.fuse_relu(0.0)
    relu.will_backward = False
    assert not run.layer.can_fuse_relu_backward(relu)
