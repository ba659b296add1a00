"""Whole nets whose convolutions are cuDNN's: the stand-in's, on the emulated stream."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn import ops
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import BackendError
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.solver.solver import Solver, SolverOptions
from tests.backend.gpu.cudnn.standin import StandIn
from tests.net.support import DATA, conv, fc, loss, replays
from tests.solver.support import make_param

NET = DATA + conv("c", "data") + fc("f", "c") + loss("loss", "f label")


class Device(EmulatedDevice):
    """The emulator with what cuDNN asks of a GPU."""

    compute_capability = (9, 0)
    stream_ptr = 0x1234

    def claim(self):
        pass


class InTurn(StandIn):
    """The stand-in whose products are given to a stream, or recorded."""

    def __init__(self, device):
        super().__init__()
        self._device = device

    def _run(self, name, *arguments):
        if not name.startswith("cudnnConvolution"):
            return super()._run(name, *arguments)
        run = super()._run

        def work():
            assert run(name, *arguments) == 0

        self._device.do(work)
        return 0


@pytest.fixture
def make_ops(monkeypatch, tmp_path):
    monkeypatch.setattr(ops, "cache_folder", lambda: tmp_path)
    # Weights are copied into the activations' order, as for most nets on a GPU.
    settings = GpuSettings(emulated=True, channels_last=True)

    def make():
        device = Device()
        return ops.CudnnOps(device, ReferenceOps(), settings, InTurn(device))

    return make


def solver_on(backend, *, capture):
    param = make_param('type: "SGD" momentum: 0.9 snapshot_prefix: "p"', NET)
    options = NetOptions(fuse=True, share_memory=True, capture=capture)
    return Solver(param, ops=backend, options=SolverOptions(net=options))


def feed(net, number):
    rng = np.random.default_rng(number)
    data, label = net.blobs["data"], net.blobs["label"]
    data.mutable_cpu_data[...] = rng.standard_normal(data.shape)
    label.mutable_cpu_data[...] = rng.integers(0, 4, label.shape)


def params(solver):
    return [blob.cpu_data.copy() for blob in solver.net.params]


@pytest.mark.parametrize("looks", [False, True])
def test_recorded_steps_are_unrecorded_ones(make_ops, looks):
    """Also where somebody had the net compute with the weights that are recorded."""
    results = []
    for capture in (False, True):
        solver = solver_on(make_ops(), capture=capture)
        for number in range(7):
            feed(solver.net, number)
            if looks and number < 3:
                solver.net.forward()
            solver.step(1)
        assert "cudnnConvolutionForward" in solver.net.ops._cudnn.library.calls
        assert solver.net._replay is None or any(replays(solver.net))
        results.append(params(solver))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_copied_again_after_a_failed_recording(make_ops):
    backend = make_ops()
    net = solver_on(backend, capture=False).net
    feed(net, 0)
    layers = list(range(len(net.layers)))
    net.run_forward(layers)
    for blob in net.params:
        blob.mutable_cpu_data[...] *= -1
        blob.touch()

    def work():
        net.run_forward(layers)
        raise BackendError("the driver's reason")

    with pytest.raises(BackendError, match="the driver's reason"):
        backend.capture(work)
    net.run_forward(layers)
    twin = solver_on(make_ops(), capture=False).net
    feed(twin, 0)
    for blob, other in zip(twin.params, net.params, strict=True):
        blob.mutable_cpu_data[...] = other.cpu_data
    twin.run_forward(layers)
    np.testing.assert_array_equal(net.blobs["c"].cpu_data, twin.blobs["c"].cpu_data)
