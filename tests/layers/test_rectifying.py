"""Layers whose backward begins with that of the ReLU after them."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from tests.devices import gpu_ops
from tests.layers.harness import build

FILL = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
BOTTOM = (2, 3, 4, 5)
#: Type, its parameters, and whether the bias' gradient comes of the same pass.
CASES = {
    "matrix": ("InnerProduct", "num_output: 6", True),
    "turned": ("InnerProduct", "num_output: 6 transpose: true", True),
    "no bias": ("InnerProduct", "num_output: 6 bias_term: false", False),
    "rows of places": ("InnerProduct", "num_output: 6 axis: 3", True),
    "windows": ("Convolution", "num_output: 4 kernel_size: 2", True),
    "one axis of windows": (
        "Convolution",
        "num_output: 4 kernel_size: 2 axis: 2",
        True,
    ),
    "no bias of windows": (
        "Convolution",
        "num_output: 4 kernel_size: 3 bias_term: false",
        False,
    ),
}


def made(name, ops, *, last=False):
    kind, text, _ = CASES[name]
    field = "inner_product_param" if kind == "InnerProduct" else "convolution_param"
    run = build(kind, f"{field} {{ {text} {FILL} }}", [BOTTOM], ops=ops,
                channels_last=last)  # fmt: skip
    rng = np.random.default_rng(4)
    run.bottom[0].mutable_cpu_data[...] = rng.standard_normal(BOTTOM)
    run.layer.fuse_relu(0.25)
    return run, rng.standard_normal(run.top[0].shape)


def relu_of(run, ops):
    relu = build("ReLU", "relu_param { negative_slope: 0.25 }", [BOTTOM], ops=ops)
    assert run.layer.can_fuse_relu_backward(relu.layer)
    return relu.layer


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("backend", ["reference", "gpu"])
@pytest.mark.parametrize("name", CASES)
def test_as_the_relus_backward_and_then_its_own(name, backend, last):
    """Over two passes, whose gradients of parameters add up."""
    ops = gpu_ops() if backend == "gpu" else ReferenceOps()
    results = []
    for fused in (False, True):
        run, dy = made(name, ops, last=last)
        if fused:
            relu = relu_of(run, ops)
            run.layer.fuse_relu_backward(relu)
            assert relu.skip_backward
            assert run.layer.backward_reads_top
        for _ in range(2):
            run.forward()
            y = run.top[0].cpu_data
            run.set_top_diffs([dy if fused else np.where(y > 0, dy, 0.25 * dy)])
            run.backward()
        results.append([*run.param_diffs(), run.bottom[0].cpu_diff])
        results[-1].append(run.top[0].cpu_diff)
    for one, other in zip(*results, strict=True):
        assert one.any()
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_where_the_bias_is_summed_up(name):
    """In one pass where the top can be seen as (N, C, ...) without a copy."""
    for last in (False, True):
        run, dy = made(name, gpu_ops(), last=last)
        run.forward()
        run.set_top_diffs([dy])
        biased = CASES[name][2]
        shape = dy.shape if CASES[name][0] == "Convolution" else (-1, 6)
        if name == "one axis of windows":
            shape = (6, 4, -1)
        shape = np.empty(dy.shape).reshape(shape).shape
        bias = run.layer.blobs[1] if biased else None
        seen = run.top[0].data.flags.c_contiguous or shape == dy.shape
        assert run.layer.rectify_diff(run.top[0], bias, shape) is (biased and seen)


def test_a_deferred_gradient_is_left_alone():
    """The factors then are of what the ReLU passes."""
    ops = gpu_ops()
    run, dy = made("matrix", ops)
    run.layer.fuse_relu_backward(relu_of(run, ops))
    run.layer.defer_gradient = True
    run.forward()
    run.set_top_diffs([dy])
    run.backward()
    assert not any(diff.any() for diff in run.param_diffs())
    factor = np.empty((2, 6), np.float32)
    ops.memory.download(run.layer.factors()[0], factor)
    want = np.where(run.top[0].cpu_data > 0, dy, 0.25 * dy)
    np.testing.assert_allclose(factor, want, rtol=1e-6)


def test_where_the_relu_keeps_its_own_backward():
    run, _ = made("matrix", ReferenceOps())
    relu = relu_of(run, ReferenceOps())
    relu.will_backward = False
    assert not run.layer.can_fuse_relu_backward(relu)
    relu.will_backward = True
    run.layer.fuse_relu(-0.5)
    assert not run.layer.can_fuse_relu_backward(relu)
