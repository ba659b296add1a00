"""BatchNorm's running moments and its fusing with Scale."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.types import Phase
from tests.layers.harness import build

SHAPE = (4, 3, 2, 5)


def norm(text="", **more):
    run = build("BatchNorm", f"batch_norm_param {{ {text} }}", [SHAPE], **more)
    x = np.random.default_rng(2).standard_normal(SHAPE) * 3 + 1
    run.bottom[0].data[...] = x
    return run


def test_the_batch_becomes_standard():
    y = norm().forward()[0]
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_running_moments_are_caffes():
    run = norm("moving_average_fraction: 0.9")
    x = run.bottom[0].data.copy()
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    run.forward()
    run.forward()
    got = run.params()
    np.testing.assert_allclose(got[0], mean * 1.9, rtol=1e-5)
    np.testing.assert_allclose(got[1], var * 1.9, rtol=1e-5)
    np.testing.assert_allclose(got[2], [1.9], rtol=1e-6)


def test_test_phase_takes_stored_moments_and_leaves_them():
    run = norm(phase=Phase.TEST)
    stored = [np.array([2, 4, 6.0]), np.array([8, 2, 18.0]), np.array([2.0])]
    run.set_params(stored)
    x = run.bottom[0].data.copy()
    mean, var = (s.reshape(1, 3, 1, 1) / 2 for s in stored[:2])
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(run.params(), stored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_stored_yet_means_zero_mean_and_variance():
    run = norm("use_global_stats: true eps: 1")
    x = run.bottom[0].data.copy()
    np.testing.assert_allclose(run.forward()[0], x, rtol=1e-5)


def test_parameters_are_never_learned():
    run = norm()
    assert run.layer.has_statistics
    assert not any(run.layer.param_propagate_down)
    assert [spec.lr_mult for spec in run.layer.param.param] == [0, 0, 0]
    with pytest.raises(LayerError, match="lr_mult"):
        build("BatchNorm", "param { lr_mult: 1 }", [SHAPE])


def test_channels_must_stay():
    run = norm()
    run.bottom[0].reshape((4, 2, 2, 5))
    with pytest.raises(ShapeError, match="3 channels"):
        run.reshape()


def scale_after(text='bias_term: true bias_filler { type: "gaussian" }'):
    return build(
        "Scale",
        f'scale_param {{ filler {{ type: "gaussian" }} {text} }}',
        [SHAPE],
        phase=Phase.TEST,
    )


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("text", ["bias_term: true bias_filler { value: -1 }", ""])
def test_fused_scale_and_relu_give_the_same(relu, text):
    run, scale = norm(phase=Phase.TEST), scale_after(text)
    run.set_params([np.ones(3), np.ones(3) * 4, np.ones(1)])
    scale.bottom[0].data[...] = run.forward()[0]
    expected = scale.forward()[0]
    expected = np.maximum(expected, 0) if relu else expected
    run.layer.will_backward = False
    # A BatchNorm right on the data: only the scale learns.
    assert not run.layer.can_fuse_scale(scale.layer)
    scale.layer.will_backward = False
    assert run.layer.can_fuse_scale(scale.layer)
    last = build("ReLU", "", [SHAPE], phase=Phase.TEST).layer
    last.will_backward = False
    assert run.layer.can_fuse_relu(last)
    run.layer.fuse_scale(scale.layer, last if relu else None)
    assert last.skip_forward == relu
    run.reshape()
    np.testing.assert_allclose(run.forward()[0], expected, rtol=1e-4, atol=1e-5)
    assert scale.layer.skip_forward


def test_fuses_only_a_scale_per_channel_and_only_one():
    scale = scale_after()
    layer = norm().layer
    assert not layer.can_fuse_scale(layer)
    assert not layer.can_fuse_scale(scale_after("num_axes: 2").layer)
    assert layer.can_fuse_scale(scale.layer)
    layer.fuse_scale(scale.layer)
    assert not layer.can_fuse_scale(scale_after().layer)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("text", ["bias_term: true bias_filler { value: -1 }", ""])
def test_fused_scale_has_the_same_gradients(phase, text):
    run, scale = norm(phase=phase), scale_after(text)
    run.set_params([np.ones(3), np.ones(3) * 4, np.ones(1)])
    dy = np.random.default_rng(4).standard_normal(SHAPE)
    scale.bottom[0].data[...] = run.forward()[0]
    scale.forward()
    scale.set_top_diffs([dy])
    run.set_top_diffs(scale.backward())
    expected = [*run.backward(), *scale.param_diffs()]
    scale.clear_param_diffs()
    run.layer.fuse_scale(scale.layer)
    run.reshape()
    run.set_params([np.ones(3), np.ones(3) * 4, np.ones(1)])
    run.forward()
    for times in (1, 2):  # gradients of a second pass are added
        run.set_top_diffs([dy])
        got = [*run.backward(), *[d / times for d in scale.param_diffs()]]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
