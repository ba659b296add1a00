"""Training with activations of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.solver.events import GradientsClipped, Warned
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.solver.worker_state import apply_shared, capture
from tests.devices import gpu_ops
from tests.solver.support import Recorder, make_param

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 8 dim: 1 dim: 12 dim: 12 } shape { dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv2" top: "ip1"
  inner_product_param { num_output: 12 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "acc" type: "Accuracy" bottom: "ip2" bottom: "label" top: "acc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SHARED = """
layer { name: "data" type: "Input" top: "data" top: "goal"
  input_param { shape { dim: 5 dim: 4 } shape { dim: 5 dim: 4 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false
    weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false
    weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "goal" top: "loss" }
"""
HALVES = ["bf16", "fp16"]
TUNED = NetOptions(fuse=True, share_memory=True, capture=True)


def solver_with(precision, text="", net=NET, *, rate=0.1, events=()):
    """A solver with the same data and labels each time."""
    text = f'base_lr: {rate} momentum: 0.9 random_seed: 3 snapshot_prefix: "p" {text}'
    solver = Solver(
        make_param(text, net), ops=gpu_ops(precision),
        options=SolverOptions(net=TUNED), events=events,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    for name in ("data", "label", "goal"):
        blob = solver.net.blobs.get(name)
        if blob is not None:
            values = rng.standard_normal(blob.shape)
            if name == "label":
                values = rng.integers(0, 5, blob.shape)
            blob.mutable_cpu_data[...] = values
    return solver


def losses(solver, steps):
    return [_step(solver) for _ in range(steps)]


def _step(solver):
    solver.step(1)
    return solver.window.values()[-1]


def values(solver):
    arrays = [blob.cpu_data for blob in solver.net.learnable]
    return [array.copy() for array in (*arrays, *solver.history.shaped())]


def assert_near(one, other, share):
    for a, b in zip(values(one), values(other), strict=True):
        assert np.linalg.norm(a - b) <= share * np.linalg.norm(b)


@pytest.mark.parametrize("precision", HALVES)
def test_thirty_steps_learn_as_float32_does(precision):
    plain = losses(solver_with("fp32"), 30)
    half = losses(solver_with(precision), 30)
    assert plain[0] > 1.4
    assert plain[-1] < 0.3
    assert half[0] == pytest.approx(plain[0], rel=0.01)
    assert half[9] == pytest.approx(plain[9], rel=0.15)
    assert half[-1] < plain[-1] + 0.1


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    "text",
    [
        "iter_size: 3",
        "clip_gradients: 0.1",
        'type: "Adam" momentum2: 0.999 delta: 1e-3',
    ],
)
def test_settings_of_solvers(precision, text):
    pair = [solver_with(p, text, SHARED) for p in (precision, "fp32")]
    for solver in pair:
        solver.step(3)
    assert_near(*pair, 0.05)


def test_clipping_sees_gradients_without_the_factor():
    heard = [Recorder(), Recorder()]
    for precision, events in zip(("fp16", "fp32"), heard, strict=True):
        solver_with(precision, "clip_gradients: 0.1", events=[events]).step(1)
    ours, plain = ([e.norm for e in one.of(GradientsClipped)] for one in heard)
    assert ours == pytest.approx(plain, rel=0.01)


def test_the_loss_and_its_weight_are_shown_without_the_factor():
    solver = solver_with("fp16")
    loss = losses(solver, 1)[0]
    assert loss == pytest.approx(losses(solver_with("fp32"), 1)[0], rel=0.01)
    assert solver.net.blobs["loss"].cpu_diff == 1.0


def test_small_gradients_survive_in_fp16():
    """Without the factor, these would all be zero."""
    net = SHARED.replace('top: "loss"', 'top: "loss" loss_weight: 1e-7')
    pair = [solver_with(precision, "", net) for precision in ("fp16", "fp32")]
    for solver in pair:
        solver.step(1)
    ours, plain = (solver.history.shaped()[0] for solver in pair)
    assert np.linalg.norm(ours - plain) <= 0.02 * np.linalg.norm(plain)


def test_a_scaled_update_copies_nothing():
    solver = solver_with("fp16")
    solver.step(3)
    device = gpu_ops("fp16").device
    before = device.copies.to_host, device.copies.to_device
    solver.apply_update()
    assert (device.copies.to_host, device.copies.to_device) == before
    solver.step(1)
    # The loss.
    assert device.copies.to_host == before[0] + 1


def test_overflow_skips_the_step_and_recovers():
    # Gradients a little above 1 times 2^16 are too much for float16.
    net = SHARED.replace('top: "loss"', 'top: "loss" loss_weight: 10')
    solver = solver_with("fp16", net=net, rate=0.001)
    before = values(solver)
    solver.step(1)
    for old, new in zip(before, values(solver), strict=True):
        np.testing.assert_array_equal(old, new)
    scaling = solver.net.loss_scale
    assert scaling.state() == {"factor": 2.0**15, "good": 0, "skipped": 1}
    solver.step(12)
    assert 1 < scaling.state()["skipped"] < 10
    assert scaling.state()["good"] > 2
    assert np.abs(values(solver)[0] - before[0]).max() > 0
    assert np.isfinite(values(solver)[0]).all()


def test_gradients_that_no_factor_saves_are_told_of():
    net = SHARED.replace('top: "loss"', 'top: "loss" loss_weight: 1e6')
    heard = Recorder()
    solver = solver_with("fp16", "display: 1", net, rate=1e-9, events=[heard])
    solver.step(15)
    assert heard.of(Warned) == []
    solver.step(5)
    assert "1 updates were skipped" in heard.of(Warned)[-1].message
    assert "use --precision bf16" in heard.of(Warned)[-1].message


@pytest.mark.parametrize("precision", HALVES)
def test_an_exact_resume(in_folder, precision):
    whole, first = (solver_with(precision) for _ in range(2))
    if precision == "fp16":
        for solver in (whole, first):
            solver.net.loss_scale.restore_state(
                {"factor": 512.0, "good": 1997, "skipped": 4}
            )
    first.step(2)
    paths = first.snapshot()
    second = solver_with(precision)
    second.restore(paths.state)
    whole.step(2)
    for solver in (whole, second):
        solver.step(3)
    for a, b in zip(values(whole), values(second), strict=True):
        np.testing.assert_array_equal(a, b)
    if precision == "fp16":
        want = {"factor": 1024.0, "good": 2, "skipped": 4}
        assert whole.net.loss_scale.state() == want
        assert second.net.loss_scale.state() == want


@pytest.mark.parametrize("way", [("fp32", "bf16"), ("bf16", "fp16"), ("fp16", "fp32")])
def test_snapshots_go_from_precision_to_precision(in_folder, way):
    first, second = (solver_with(precision) for precision in way)
    first.step(2)
    second.restore(first.snapshot().state)
    assert second.iteration == 2
    for a, b in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(a, b)
    for solver in (first, second):
        solver.step(1)
    assert_near(first, second, 0.1)


def test_bf16_needs_no_factor():
    assert solver_with("bf16").net.loss_scale is None


def test_one_scale_for_any_number_of_workers():
    """A worker takes it from whoever's state is at hand."""
    one, other = solver_with("fp16"), solver_with("fp16")
    state = {"factor": 512.0, "good": 7, "skipped": 4}
    one.net.loss_scale.restore_state(state)
    apply_shared(other, capture(one), [])
    assert other.net.loss_scale.state() == state
