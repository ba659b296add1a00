"""pycaffe's functions where nets are on a GPU."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.caffe import state
from poseidon_caffe.errors import BackendError, PoseidonError, WeightsError
from tests.backend.gpu.test_base import get
from tests.devices import ON_CUDA

PYTHON = """
name: "own"
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 3 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {
  num_output: 5 weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
layer { name: "own" type: "Python" bottom: "ip" top: "own" python_param {
  module: "poseidon_caffe.caffe.example_layer" layer: "ScaleLayer"
  param_str: "-2" } }
layer { name: "ip2" type: "InnerProduct" bottom: "own" top: "ip2" inner_product_param {
  num_output: 2 weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def on_gpu(monkeypatch):
    """Nets opened from now on are on the GPU (emulated, unless tests have one)."""
    if not ON_CUDA:
        monkeypatch.setenv("POSEIDON_GPU", "emulated")
    caffe.set_device(0)
    caffe.set_mode_gpu()
    yield
    caffe.set_mode_cpu()
    caffe.set_device(0)


@pytest.fixture
def pair(on_gpu, net_file):
    """One net twice, on the CPU and on the GPU, with equal parameters and data."""
    caffe.set_random_seed(3)
    caffe.set_mode_cpu()
    cpu = caffe.Net(net_file, caffe.TRAIN)
    caffe.set_random_seed(3)
    caffe.set_mode_gpu()
    gpu = caffe.Net(net_file, caffe.TRAIN)
    assert (cpu._core.ops.name, gpu._core.ops.name) == ("cpu", "gpu")
    for net in (cpu, gpu):
        fill(net)
    return cpu, gpu


def fill(net, seed=0):
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.integers(0, 3, 4)


def assert_close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_both_side_by_side(pair):
    cpu, gpu = pair
    for seed in range(2):
        results = []
        for net in pair:
            fill(net, seed)
            net.clear_param_diffs()
            out = net.forward()
            down = net.backward(diffs=["conv"])
            results.append((out["loss"].copy(), down["conv"].copy()))
        for one, other in zip(*results, strict=True):
            assert_close(one, other)
        for name, blobs in cpu.params.items():
            for one, other in zip(blobs, gpu.params[name], strict=True):
                assert_close(one.data, other.data)
                assert_close(one.diff, other.diff)
        for name, blob in cpu.blobs.items():
            assert_close(blob.data, gpu.blobs[name].data)
            assert_close(blob.diff, gpu.blobs[name].diff)


def test_parameters_edited_from_python_take_effect(pair):
    results = []
    for net in pair:
        net.forward()
        net.params["ip"][0].data[...] = 0
        net.params["ip"][1].data[1] = 7
        first = net.forward()["loss"].copy()
        net.params["conv"][0].data[...] *= 2
        net.params["ip"][0].data[0] = 1
        results.append((first, net.forward()["loss"].copy(), net.blobs["ip"].data))
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


def test_blobs_written_in_the_middle_of_a_net(pair):
    results = []
    for net in pair:
        net.forward(end="relu")
        net.blobs["conv"].data[...] = 0.25
        net.forward(start="ip")
        net.blobs["ip"].diff[...] = 1
        net.backward(start="ip", end="ip")
        results.append((net.blobs["ip"].data, net.blobs["conv"].diff))
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


def test_gpu_data_is_the_memory_that_kernels_use(pair):
    cpu, gpu = pair
    blob = gpu.blobs["data"]
    np.testing.assert_array_equal(get(blob.gpu_data), blob.data)
    assert blob.gpu_data.shape == blob.shape
    assert pointer(blob.gpu_data) == pointer(gpu._core.blobs["data"].data)
    gpu._core.ops.memory.clear(blob.gpu_data)
    assert not blob.data.any()
    blob.diff[...] = 4
    assert (get(blob.gpu_diff) == 4).all()
    for member in ("gpu_data", "gpu_diff"):
        with pytest.raises(BackendError, match="this net is on the CPU"):
            getattr(cpu.blobs["data"], member)


def test_a_python_layer_between_others(on_gpu, tmp_path):
    path = tmp_path / "own.prototxt"
    path.write_text(PYTHON)
    net = caffe.Net(str(path), caffe.TRAIN)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for factor in (1, 2):
        net.clear_param_diffs()
        out = net.forward(data=factor * x)["ip2"]
        w, b = (blob.data.copy() for blob in net.params["ip"])
        w2 = net.params["ip2"][0].data.copy()
        hidden = -2 * (factor * x @ w.T + b)
        assert_close(net.blobs["own"].data, hidden)
        assert_close(out, hidden @ w2.T)
        dy = np.ones((3, 2), np.float32)
        down = net.backward(ip2=dy)["data"]
        assert_close(down, -2 * (dy @ w2) @ w)
        assert_close(net.params["ip"][0].diff, (-2 * dy @ w2).T @ (factor * x))
        assert_close(net.params["ip2"][0].diff, dy.T @ hidden)


def test_share_with_and_copy_from(on_gpu, net_file, tmp_path):
    first, second = (caffe.Net(net_file, caffe.TRAIN) for _ in range(2))
    fill(first)
    fill(second)
    second.share_with(first)
    first.params["ip"][1].data[...] = [5, 0, -5]
    assert_close(second.forward()["loss"], first.forward()["loss"])
    second.params["conv"][0].data[...] = 0
    assert not first.params["conv"][0].data.any()
    assert_close(second.forward()["loss"], first.forward()["loss"])
    path = str(tmp_path / "w.caffemodel")
    first.save(path)
    third = caffe.Net(net_file, path, caffe.TRAIN)
    caffe.set_mode_cpu()
    fourth = caffe.Net(net_file, path, caffe.TRAIN)
    for net in (third, fourth):
        fill(net)
        assert_close(net.forward()["loss"], first.forward()["loss"])
    first.save_hdf5(path + ".h5")
    third.params["ip"][1].data[...] = 0
    third.load_hdf5(path + ".h5")
    np.testing.assert_array_equal(third.params["ip"][1].data, [5, 0, -5])


def test_other_batches_and_forward_all(pair):
    results = []
    for net in pair:
        net.blobs["data"].reshape(2, 2, 6, 7)
        net.blobs["label"].reshape(2)
        net.blobs["data"].data[...] = 0.5
        net.blobs["label"].data[...] = 1
        small = net.forward()["loss"].copy()
        net.blobs["data"].reshape(9, 2, 6, 7)
        net.blobs["label"].reshape(9)
        net.blobs["data"].data[...] = np.linspace(-1, 1, 9 * 84).reshape(9, 2, 6, 7)
        net.blobs["label"].data[...] = 2
        large = net.forward()["loss"].copy()
        data = np.linspace(0, 1, 20 * 84).reshape(20, 2, 6, 7)
        whole = net.forward_all(["ip"], data=data, label=np.zeros(20))
        results.append((small, large, whole["ip"]))
    assert results[0][2].shape == (20, 3)
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


def test_a_solver(on_gpu, solver_file, tmp_path):
    solvers = []
    for mode in (caffe.set_mode_cpu, caffe.set_mode_gpu):
        mode()
        caffe.set_random_seed(4)
        solvers.append(caffe.SGDSolver(solver_file))
    assert [s.net._core.ops.name for s in solvers] == ["cpu", "gpu"]
    for number in range(4):
        for solver in solvers:
            fill(solver.net, number)
            solver.step(1)
        if number == 1:
            for solver in solvers:
                solver.net.params["ip"][0].data[...] *= 0.5
    one, other = solvers
    for name, blobs in one.net.params.items():
        for mine, theirs in zip(blobs, other.net.params[name], strict=True):
            assert_close(mine.data, theirs.data)
    other.snapshot()
    assert (tmp_path / "snap_iter_4.caffemodel").exists()
    before = other.net.params["ip"][0].data.copy()
    fill(other.net, 9)
    other.step(1)
    assert (other.net.params["ip"][0].data != before).any()
    other.restore(str(tmp_path / "snap_iter_4.solverstate"))
    np.testing.assert_array_equal(other.net.params["ip"][0].data, before)
    one.restore(str(tmp_path / "snap_iter_4.solverstate"))
    np.testing.assert_array_equal(one.net.params["ip"][0].data, before)


def test_the_mode_is_that_of_the_moment_a_net_is_opened(on_gpu, net_file):
    gpu = caffe.Net(net_file, caffe.TEST)
    caffe.set_mode_cpu()
    cpu = caffe.Net(net_file, caffe.TEST)
    assert (gpu._core.ops.name, cpu._core.ops.name) == ("gpu", "cpu")
    gpu.forward()
    cpu.forward()


@pytest.mark.skipif(ON_CUDA, reason="counts the emulator's GPUs")
def test_devices(on_gpu, net_file, monkeypatch):
    monkeypatch.setenv("POSEIDON_EMULATED_GPUS", "2")
    first = caffe.Net(net_file, caffe.TEST)
    caffe.set_device(1)
    second = caffe.Net(net_file, caffe.TEST)
    assert first._core.ops.device.index == 0
    assert second._core.ops.device.index == 1
    with pytest.raises(PoseidonError, match="no GPU 2"):
        caffe.set_device(2)
    assert caffe.Net(net_file, caffe.TEST)._core.ops is second._core.ops
    del state._state.ops["gpu 1"]


@pytest.mark.skipif(ON_CUDA, reason="there is a GPU")
def test_without_a_gpu_it_warns_and_computes_on_the_cpu(net_file, monkeypatch):
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    with pytest.warns(RuntimeWarning, match=r"set_mode_gpu\(\): .*run on the CPU"):
        caffe.set_mode_gpu()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = caffe.Net(net_file, caffe.TEST)
        caffe.set_device(5)  # as scripts do, before or after
        caffe.set_device(0)
    assert net._core.ops.name != "gpu"
    net.forward()


def test_nets_on_different_devices_share_no_parameters(on_gpu, tmp_path):
    path = tmp_path / "own.prototxt"
    path.write_text(PYTHON)
    there = caffe.Net(str(path), caffe.TEST)
    caffe.set_mode_cpu()
    here = caffe.Net(str(path), caffe.TEST)
    for one, other in ((here, there), (there, here)):
        with pytest.raises(WeightsError, match="nets on different devices"):
            one.share_with(other)
    assert np.isfinite(here.forward()["ip2"]).all()
