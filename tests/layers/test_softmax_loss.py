"""SoftmaxWithLoss: normalisation, labels, the second top."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build
from tests.net.support import make_net

SHAPES = [(2, 5, 4, 3), (2, 4, 3)]


def loss(text="", **more):
    run = build("SoftmaxWithLoss", text, more.pop("bottoms", SHAPES), **more)
    rng = np.random.default_rng(3)
    run.bottom[0].data[...] = rng.standard_normal(run.bottom[0].shape)
    run.bottom[1].data[...] = rng.integers(0, 5, run.bottom[1].shape)
    return run


def places(run):
    """-log prob of each place's label."""
    x = run.bottom[0].data.astype(np.float64)
    log = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log, run.bottom[1].data.astype(int)[:, None], 1)[:, 0]


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", "counted"),
        ("normalization: VALID", "counted"),
        ("normalization: FULL", 24),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalize: true", "counted"),
        ("normalize: false", 2),
        ("normalize: false normalization: FULL", 24),
    ],
)
def test_normalisation(text, divisor):
    run = loss(f"loss_param {{ ignore_label: 3 {text} }}")
    counted = run.bottom[1].data != 3
    expected = places(run)[counted].sum()
    expected /= counted.sum() if divisor == "counted" else divisor
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-5)
    assert run.top[0].shape == ()
    run.top[0].diff[...] = 1
    dx = run.backward([True, False])[0]
    assert (dx[np.broadcast_to(~counted[:, None], dx.shape)] == 0).all()


def test_nothing_counted_is_a_loss_of_zero():
    run = loss("loss_param { ignore_label: 3 }")
    run.bottom[1].data[...] = 3
    assert run.forward()[0] == 0
    run.top[0].diff[...] = 1
    assert (run.backward([True, False])[0] == 0).all()


def test_a_certain_mistake_is_finite():
    run = loss(bottoms=[(1, 2), (1,)])
    run.bottom[0].data[...] = [[1000, -1000]]
    run.bottom[1].data[...] = 1
    np.testing.assert_allclose(run.forward()[0], 87.3365, rtol=1e-4)


def test_the_second_top_is_the_probabilities():
    run = loss(num_top=2)
    _, prob = run.forward()
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 5, 255, np.nan])
def test_labels_out_of_range_are_errors(label):
    run = loss()
    run.bottom[1].data[1, 2, 0] = label
    with pytest.raises(LayerError, match=r'layer "layer".*position 18.*0\.\.4'):
        run.forward()


def test_label_count_must_fit():
    with pytest.raises(ShapeError, match=r"24 labels.*b1: \(2, 4\)"):
        loss(bottoms=[(2, 5, 4, 3), (2, 4)])


def test_no_gradient_for_labels():
    run = loss()
    run.forward()
    with pytest.raises(LayerError, match="label"):
        run.backward([True, True])
    assert run.layer.allow_force_backward(0)
    assert not run.layer.allow_force_backward(1)
    assert run.layer.default_loss_weight(0) == 1
    assert run.layer.default_loss_weight(1) == 0


def test_label_and_score_must_agree_in_their_first_axis():
    # As many labels as places is not enough for Caffe.
    with pytest.raises(ShapeError, match="same batch"):
        loss(bottoms=[(2, 5, 4, 3), (1, 2, 4, 3)])
    assert loss(bottoms=[(2, 5, 4, 3), (2, 12)]).forward()[0] > 0


@pytest.mark.parametrize(
    ("axis", "shape", "places"),
    [(-1, (4, 3, 5), (4, 3)), (2, (4, 2, 5, 3), (4, 2, 3)), (3, (2, 3, 4, 5), (2, 12))],
)
def test_other_axes(axis, shape, places, cpu):
    for ops in (None, cpu):
        text = f"softmax_param {{ axis: {axis} }}"
        run = loss(text, bottoms=[shape, places], ops=ops)
        x = np.moveaxis(run.bottom[0].data.astype(np.float64), axis, -1).reshape(-1, 5)
        label = run.bottom[1].data.reshape(-1).astype(int)
        prob = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        rows = np.arange(len(x))
        np.testing.assert_allclose(
            run.forward()[0], -np.log(prob[rows, label]).mean(), rtol=1e-5
        )
        run.top[0].diff[...] = 1
        dx = np.moveaxis(run.backward([True, False])[0], axis, -1).reshape(-1, 5)
        prob[rows, label] -= 1
        np.testing.assert_allclose(dx, prob / len(x), atol=1e-6)


@pytest.mark.parametrize("ignored", [-1, 255])
def test_labels_are_cut_to_whole_numbers(ignored, cpu):
    for ops in (None, cpu):
        text = f"loss_param {{ ignore_label: {ignored} }}"
        run = loss(text, bottoms=[(4, 5), (4,)], ops=ops)
        # -0.5 is class 0, 2.9 class 2; the last is ignored with its fraction.
        run.bottom[1].data[...] = [-0.5, 2.9, 4, ignored + np.copysign(0.5, ignored)]
        other = loss(bottoms=[(3, 5), (3,)])
        other.bottom[0].data[...] = run.bottom[0].data[:3]
        other.bottom[1].data[...] = [0, 2, 4]
        np.testing.assert_allclose(run.forward(), other.forward(), rtol=1e-6)
        run.top[0].diff[...] = other.top[0].diff[...] = 1
        dx = run.backward([True, False])[0]
        np.testing.assert_allclose(dx[:3], other.backward([True, False])[0], atol=1e-7)
        assert (dx[3] == 0).all()


NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 3 dim: 4 } shape { dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t"
  top: "l" top: "p" loss_weight: 0.5 loss_weight: 2 }
"""


def test_the_second_top_may_have_a_weight_but_gives_no_gradient():
    grads = []
    for text in (NET, NET.replace("loss_weight: 2", "loss_weight: 0")):
        net = make_net(text)
        net.blobs["x"].data[...] = np.arange(12).reshape(3, 4) / 10
        net.blobs["t"].data[...] = [0, 3, 1]
        net.clear_param_diffs()
        total = net.forward_backward()
        # The probabilities of three samples add up to 3.
        more = 2 * 3 if text is NET else 0
        np.testing.assert_allclose(
            total, 0.5 * float(net.blobs["l"].data) + more, rtol=1e-5
        )
        grads.append(net.learnable[0].diff.copy())
    np.testing.assert_array_equal(*grads)


def test_force_backward_spares_labels_and_propagate_down_spares_scores():
    net = make_net("force_backward: true " + NET)
    assert net.bottom_need_backward[-1] == [True, False]
    stopped = NET.replace(
        "loss_weight: 0.5", "propagate_down: false propagate_down: false loss_weight: 1"
    )
    net = make_net(stopped)
    assert net.bottom_need_backward[-1] == [False, False]
