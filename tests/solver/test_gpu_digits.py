"""LeNet learns the handwritten digits on a GPU, in every precision."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.digits import load_digits
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.messages import LayerParameter, NetParameter
from poseidon_caffe.schema.upgrade import read_net, read_solver
from poseidon_caffe.solver.solver import Solver, SolverOptions
from tests.devices import ON_CUDA, gpu_ops

BATCH = 60
# The emulator takes a quarter of a second a step.
STEPS, ACCURACY = (1000, 0.97) if ON_CUDA else (200, 0.9)


def lenet(repo):
    """The net of `make train`, fed by Input layers: this needs no LMDB."""
    whole = read_net(repo / "models" / "lenet" / "digits_train_test.prototxt")
    out = NetParameter(name=whole.name)
    for layer in whole.layer:
        if layer.type != "Data":
            out.layer.append(layer)
            continue
        feed = LayerParameter(name=layer.name, type="Input", top=layer.top)
        feed.include.extend(layer.include)
        feed.input_param.shape.add(dim=(BATCH, 1, 28, 28))
        feed.input_param.shape.add(dim=(BATCH,))
        out.layer.append(feed)
    return out


def fill(net, digits, chosen):
    net.blobs["data"].mutable_cpu_data[:, 0] = digits.images[chosen] / 256
    net.blobs["label"].mutable_cpu_data[...] = digits.labels[chosen]


def accuracy(net, digits):
    """Share of all its images that the net names rightly."""
    found = []
    for first in range(0, len(digits.labels), BATCH):
        fill(net, digits, slice(first, first + BATCH))
        net.forward()
        found.append(float(net.blobs["accuracy"].cpu_data))
    return np.mean(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_lenet_learns(repo, precision):
    if not ON_CUDA and precision == "tf32":
        pytest.skip("the emulator multiplies in float32")
    param = read_solver(repo / "models" / "lenet" / "digits_solver.prototxt")
    param.net_param.CopyFrom(lenet(repo))
    param.ClearField("net")
    param.max_iter, param.snapshot, param.display = STEPS, 0, 0
    param.test_initialization, param.test_interval = False, STEPS + 1
    net = NetOptions(fuse=True, share_memory=True, capture=True)
    solver = Solver(param, ops=gpu_ops(precision), options=SolverOptions(net=net))
    train, test = load_digits()
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        fill(solver.net, train, rng.integers(0, len(train.labels), BATCH))
        solver.step(1)
    (scored,) = solver.test_nets
    scored.share_trained_layers_with(solver.net)
    assert accuracy(scored, test) >= ACCURACY
