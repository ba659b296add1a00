"""HingeLoss: both norms beside the formula, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def hinge(text="", shapes=((3, 4), (3,)), **more):
    run = build("HingeLoss", text, shapes, **more)
    x = np.linspace(-2, 2, run.bottom[0].count)
    run.bottom[0].data[...] = x.reshape(run.bottom[0].shape)
    run.bottom[1].data.reshape(-1)[...] = [1, 3.9, 0][: shapes[0][0]]
    return run


@pytest.mark.parametrize("norm", ["", "L1", "L2"])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3,)), ((3, 2, 1, 2), (3, 1, 1, 1)), ((3, 2, 2, 1), (3, 1))]
)
def test_formula(norm, shapes, cpu):
    text = f"hinge_loss_param {{ norm: {norm} }}" if norm else ""
    for ops in (None, cpu):
        run = hinge(text, shapes, ops=ops)
        sign = np.ones((3, 4))
        sign[[0, 1, 2], [1, 3, 0]] = -1
        margin = np.maximum(1 + sign * run.bottom[0].data.reshape(3, 4), 0)
        power = 2 if norm == "L2" else 1
        np.testing.assert_allclose(
            run.forward()[0], (margin**power).sum() / 3, rtol=1e-6
        )
        assert run.top[0].shape == ()
        run.top[0].diff[...] = 0.5
        dx = run.backward([True, False])[0].reshape(3, 4)
        slope = sign * (2 * margin if power == 2 else margin > 0)
        np.testing.assert_allclose(dx, 0.5 / 3 * slope, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 4, np.nan])
def test_labels_out_of_range_are_errors(label):
    run = hinge()
    run.bottom[1].data[1] = label
    with pytest.raises(LayerError, match=r"position 1.*0\.\.3"):
        run.forward()


@pytest.mark.parametrize("shapes", [((3, 4), (2,)), ((3, 4), (3, 2))])
def test_one_label_a_sample(shapes):
    with pytest.raises(ShapeError):
        build("HingeLoss", "", shapes)


def test_no_gradient_for_labels():
    run = hinge()
    run.forward()
    assert not run.layer.allow_force_backward(1)
    with pytest.raises(LayerError, match="label"):
        run.backward([True, True])
