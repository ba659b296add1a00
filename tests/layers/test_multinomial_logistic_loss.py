"""MultinomialLogisticLoss: formula, the floor, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


@pytest.mark.parametrize(
    "shapes", [((3, 4), (3,)), ((3, 2, 1, 2), (3, 1, 1, 1)), ((3, 2, 2, 1), (3, 1))]
)
def test_formula(shapes, cpu):
    for ops in (None, cpu):
        run = build("MultinomialLogisticLoss", "", shapes, ops=ops)
        prob = np.arange(1, 13).reshape(3, 4) / 20
        run.bottom[0].data[...] = prob.reshape(shapes[0])
        run.bottom[1].data.reshape(-1)[...] = [1, 3.9, 0]
        picked = prob[[0, 1, 2], [1, 3, 0]]
        np.testing.assert_allclose(
            run.forward()[0], -np.log(picked).sum() / 3, rtol=1e-6
        )
        run.top[0].diff[...] = 0.5
        want = np.zeros((3, 4))
        want[[0, 1, 2], [1, 3, 0]] = -0.5 / 3 / picked
        dx = run.backward([True, False])[0].reshape(3, 4)
        np.testing.assert_allclose(dx, want, rtol=1e-6)


def test_a_probability_of_zero_counts_as_1e_20():
    run = build("MultinomialLogisticLoss", "", [(1, 2), (1,)])
    np.testing.assert_allclose(run.forward()[0], 20 * np.log(10), rtol=1e-6)
    run.top[0].diff[...] = 1
    np.testing.assert_allclose(run.backward([True, False])[0], [[-1e20, 0]], rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 4, np.nan])
def test_labels_out_of_range_are_errors(label):
    run = build("MultinomialLogisticLoss", "", [(3, 4), (3,)])
    run.bottom[1].data[1] = label
    with pytest.raises(LayerError, match=r"position 1.*0\.\.3"):
        run.forward()


@pytest.mark.parametrize("shapes", [((3, 4), (2,)), ((3, 4), (3, 2)), ((), ())])
def test_one_label_a_sample(shapes):
    with pytest.raises(ShapeError):
        build("MultinomialLogisticLoss", "", shapes)


def test_no_gradient_for_labels():
    run = build("MultinomialLogisticLoss", "", [(3, 4), (3,)])
    assert not run.layer.allow_force_backward(1)
    with pytest.raises(LayerError, match="label"):
        run.backward([True, True])
