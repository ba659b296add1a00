"""Training on the GPU backend is training on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.solver.events import GradientsClipped
from poseidon_caffe.solver.solver import Solver, SolverOptions
from tests.devices import gpu_ops
from tests.solver.support import Recorder, make_param, make_solver
from tests.solver.test_groups import RULES

#: Two layers share their weights; one parameter has a rate of its own.
NET = """
name: "shared"
layer { name: "data" type: "Input" top: "data" top: "goal"
  input_param { shape { dim: 5 dim: 4 } shape { dim: 5 dim: 4 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  param { name: "w" } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  param { name: "w" } param { lr_mult: 0.5 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "ip3" type: "InnerProduct" bottom: "ip2" top: "ip3"
  param { lr_mult: 0 } param { lr_mult: 1 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip3" bottom: "goal" top: "loss" }
"""


def solver_on(device, text="", *, grouped=True, events=()):
    text = f'snapshot_prefix: "p" {text}'
    options = SolverOptions(net=NetOptions(share_memory=grouped))
    if device == "cpu":
        net = NetOptions(share_memory=grouped)
        return make_solver(text, NET, backend="cpu", events=events, net=net)
    param = make_param(text, NET)
    return Solver(param, ops=gpu_ops(), options=options, events=events)


def start(solver):
    """The same data and weights everywhere."""
    rng = np.random.default_rng(5)
    for blob in (solver.net.blobs["data"], solver.net.blobs["goal"]):
        blob.mutable_cpu_data[...] = rng.standard_normal(blob.shape)
    for blob in solver.net.learnable:
        blob.mutable_cpu_data[...] = 0.5 * rng.standard_normal(blob.shape)
        blob.touch()
    return solver


def end(solver):
    arrays = [blob.cpu_data for blob in solver.net.learnable]
    return [array.copy() for array in (*arrays, *solver.history.shaped())]


def assert_alike(one, other):
    for a, b in zip(end(one), end(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule, grouped):
    text = f'type: "{rule}" base_lr: 0.02 iter_size: 2 {RULES[rule]}'
    pair = [start(solver_on(d, text, grouped=grouped)) for d in ("cpu", "gpu")]
    for solver in pair:
        solver.step(3)
    assert_alike(*pair)


def test_clipping_downloads_one_number():
    text = "momentum: 0.9 clip_gradients: 0.5"
    heard = [Recorder(), Recorder()]
    pair = [
        start(solver_on(d, text, events=[e]))
        for d, e in zip(("cpu", "gpu"), heard, strict=True)
    ]
    for solver in pair:
        solver.step(2)
    assert_alike(*pair)
    cpu, gpu = ([e.norm for e in r.of(GradientsClipped)] for r in heard)
    assert len(cpu) == 2
    np.testing.assert_allclose(cpu, gpu, rtol=1e-5)
    copies = gpu_ops().device.copies
    before = copies.to_host, copies.to_host_bytes, copies.to_device
    pair[1].apply_update()
    after = copies.to_host, copies.to_host_bytes, copies.to_device
    assert np.subtract(after, before).tolist() == [1, 8, 0]


def test_an_update_copies_nothing_and_is_one_launch():
    solver = start(solver_on("gpu", "momentum: 0.9 lr_policy: 'inv' power: 1 gamma: 1"))
    solver.step(2)
    device = gpu_ops().device
    if not hasattr(device, "launches"):
        pytest.skip("counts no launches")
    before = device.launches, device.copies.to_host, device.copies.to_device
    solver.apply_update()
    after = device.launches, device.copies.to_host, device.copies.to_device
    assert np.subtract(after, before).tolist() == [1, 0, 0]


def test_values_written_on_the_host_are_what_is_updated():
    solver = start(solver_on("gpu", "momentum: 0.9"))
    solver.step(1)
    blob = solver.net.learnable[1]
    blob.mutable_cpu_data[...] = 7
    blob.mutable_cpu_diff[...] = 1
    for array in solver.history.host_of(1):
        array[...] = 2
    solver.apply_update()
    # h = 0.9 * 2 + 0.1 * 2 * 1
    np.testing.assert_allclose(blob.cpu_data, 7 - 2.0, rtol=1e-6)
    np.testing.assert_allclose(solver.history.shaped()[1], 2.0, rtol=1e-6)


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("way", [("cpu", "gpu"), ("gpu", "cpu"), ("gpu", "gpu")])
def test_snapshots_go_from_device_to_device(in_folder, way, rule):
    text = f'type: "{rule}" base_lr: 0.02 {RULES[rule]}'
    first, second = (solver_on(device, text) for device in way)
    start(first).step(2)
    paths = first.snapshot()
    start(second).restore(paths.state)
    assert second.iteration == 2
    for a, b in zip(end(first), end(second), strict=True):
        np.testing.assert_array_equal(a, b)
    for solver in (first, second):
        solver.step(2)
    assert_alike(first, second)


def test_rows_are_updated_on_the_host():
    solver = start(solver_on("gpu", "momentum: 0.9"))
    updater = solver.row_updater()
    (history,) = updater.history_of(0)
    assert isinstance(history, np.ndarray)
    history[...] = 3
    assert (solver.history.shaped()[0] == 3).all()


def test_what_a_server_updates_stays_on_the_host():
    solver = start(solver_on("gpu", "momentum: 0.9"))
    solver.step(2)
    before = [array.copy() for array in solver.history.shaped()]
    assert before[0].any()
    (history,) = solver.row_updater().history_of(0)
    np.testing.assert_array_equal(history, before[0].reshape(-1))
    history[...] = 3
    # A graph of a test net brings to the device what the host wrote, and may change it.
    solver.ops.memory.flush()
    solver.ops.memory.epoch += 1
    history[...] = 4
    assert (solver.history.shaped()[0] == 4).all()
    (again,) = solver.row_updater().history_of(0)
    assert again is history or again.ctypes.data == history.ctypes.data
    np.testing.assert_array_equal(solver.history.shaped()[1], before[1])
