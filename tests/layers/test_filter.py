"""Filter: what passes, and nets whose blobs change shape from batch to batch."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build
from tests.net.support import make_net

SHAPES = [(4, 3), (4, 2, 2, 3), (4, 1)]


def passing(selector, shapes=SHAPES, **more):
    run = build("Filter", "", shapes, num_top=len(shapes) - 1, **more)
    rng = np.random.default_rng(4)
    for blob in run.bottom[:-1]:
        blob.data[...] = rng.standard_normal(blob.shape)
    run.bottom[-1].data.reshape(-1)[...] = selector
    return run


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ([1, 0, 0.1, -2], [0, 2, 3]),
        ([0, 0, 0, 5], [3]),
        ([1, 1, 1, 1], [0, 1, 2, 3]),
        ([0, 0, 0, 0], []),
        ([np.nan, 0, 0, 0], [0]),
    ],
)
def test_what_is_not_zero_passes(selector, chosen, cpu):
    for ops in (None, cpu):
        run = passing(selector, ops=ops)
        assert [blob.shape for blob in run.top] == SHAPES[:2]  # the whole batch first
        for blob, y in zip(run.bottom, run.forward(), strict=False):
            np.testing.assert_array_equal(y, blob.data[chosen])
        for blob in run.bottom[:-1]:
            blob.diff[...] = 7
        run.set_top_diffs([blob.data * 2 for blob in run.top])
        for blob, dx in zip(
            run.bottom[:-1], run.backward([True, True, False]), strict=False
        ):
            want = np.zeros(blob.shape)
            want[chosen] = 2 * blob.data[chosen]
            np.testing.assert_array_equal(dx, want.astype(np.float32))


def test_reshaping_again_follows_the_selector():
    run = passing([1, 0, 1, 0])
    run.reshape()
    assert run.top[0].shape == (2, 3)
    run.bottom[-1].data[...] = 1
    run.forward()
    assert run.top[0].shape == (4, 3)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="after the first must be of length 1"):
        passing(1, [(4, 3), (4, 2)])
    with pytest.raises(ShapeError, match="same batch"):
        passing(1, [(4, 3), (5, 3), (4,)])
    with pytest.raises(LayerError, match=r"2 top\(s\), not 1"):
        build("Filter", "", SHAPES, num_top=1)


def test_the_selector_gets_no_gradient():
    run = passing([1, 0, 1, 0])
    assert [run.layer.allow_force_backward(i) for i in range(3)] == [True, True, False]
    run.forward()
    with pytest.raises(LayerError, match="selector"):
        run.backward([True, False, True])


NET = """
layer { name: "in" type: "Input" top: "x" top: "t" top: "s" input_param {
  shape { dim: 6 dim: 2 dim: 5 dim: 5 } shape { dim: 6 } shape { dim: 6 } } }
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1" convolution_param {
  num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "f" type: "Filter" bottom: "c1" bottom: "t" bottom: "s"
  top: "some" top: "labels" propagate_down: true propagate_down: false
  propagate_down: false }
layer { name: "c2" type: "Convolution" bottom: "some" top: "c2" convolution_param {
  num_output: 4 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "ip" type: "InnerProduct" bottom: "c2" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "labels" top: "l"
  propagate_down: true propagate_down: false }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "labels" top: "a" }
"""


def step(net, x, labels, selector):
    for name, values in (("x", x), ("t", labels), ("s", selector)):
        net.blobs[name].data[...] = values
    net.clear_param_diffs()
    loss = net.forward_backward()
    return loss, [blob.diff.copy() for blob in net.learnable]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_layers_after_it_follow_in_a_planned_net(backend):
    rng = np.random.default_rng(5)
    net = make_net(NET, fuse=True, share_memory=True, backend=backend)
    plain = make_net(NET, backend=backend)
    for selector in ([1, 0, 1, 1, 0, 0], [0] * 6, [1] * 6, [0, 0, 0, 0, 0, 1]):
        x, labels = rng.standard_normal((6, 2, 5, 5)), rng.integers(0, 3, 6)
        loss, grads = step(net, x, labels, selector)
        again, others = step(plain, x, labels, selector)
        assert net.blobs["ip"].shape[0] == sum(selector)
        np.testing.assert_allclose(loss, again, rtol=1e-5)
        for a, b in zip(grads, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        if not any(selector):
            assert loss == 0
            assert all((g == 0).all() for g in grads)
            continue
        # The same items alone, which then all pass.
        chosen = np.flatnonzero(selector)
        small = NET.replace("dim: 6", f"dim: {len(chosen)}")
        alone = make_net(small, backend=backend)
        loss_alone, grads_alone = step(alone, x[chosen], labels[chosen], 1)
        np.testing.assert_allclose(loss, loss_alone, rtol=1e-5)
        for a, b in zip(grads, grads_alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
