"""A GPU's memory that is too small: one line says where and what to do."""

from __future__ import annotations

import gc
import re

import pytest

from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import PoseidonError
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.solver.solver import Solver, SolverOptions
from tests.net.support import conv, fc, layer, loss
from tests.solver.support import make_param

HOST = ReferenceOps()
POOL = "pooling_param { kernel_size: 2 stride: 2 }"


def net_text(batch):
    return (
        'layer { name: "data" type: "Input" top: "data" top: "label" input_param {'
        f"shape {{ dim: {batch} dim: 3 dim: 12 dim: 12 }}"
        f"shape {{ dim: {batch} }} }} }}"
        + conv("c1", "data", "num_output: 8 kernel_size: 1")
        + layer("r1", "ReLU", "c1", "c1")
        + layer("p1", "Pooling", "c1", "p1", POOL)
        + fc("f1", "p1", 32)
        + layer("d", "Dropout", "f1", "f1")
        + fc("f2", "f1")
        + loss("loss", "f2 label")
    )  # fmt: skip


def small(limit):
    device = EmulatedDevice(limit_bytes=limit)
    return GpuOps(device, HOST, GpuSettings(emulated=True))


def train(ops, batch, *, planned, rule='type: "SGD" momentum: 0.9'):
    options = NetOptions(fuse=planned, share_memory=planned, capture=planned)
    param = make_param(f'{rule} snapshot_prefix: "p"', net_text(batch))
    solver = Solver(param, ops=ops, options=SolverOptions(net=options))
    solver.step(3)
    return solver


def needed(batch, **more):
    """Bytes that training takes."""
    ops = small(1 << 30)
    solver = train(ops, batch, **more)
    free, total = ops.device.memory_bytes()
    del solver
    return total - free


def failure(ops, batch, **more):
    """What is said; the solver is gone then."""
    with pytest.raises(PoseidonError) as caught:
        train(ops, batch, **more)
    text = str(caught.value)
    caught.value.__traceback__ = None
    return text


@pytest.mark.parametrize("planned", [False, True])
def test_wherever_memory_ends_one_line_says_so(planned):
    most = needed(16, planned=planned)
    for limit in range(1000, int(most * 0.98), most // 20):
        ops = small(limit)
        before = ops.device.memory_bytes()
        text = failure(ops, 16, planned=planned)
        assert "\n" not in text
        assert re.search(r"out of GPU memory at layer '\w+': wanted [\d.]+ \w+, ", text)
        assert "batch" in text
        gc.collect()
        kept = before[0] - ops.device.memory_bytes()[0]
        # What the backend itself keeps for its next nets, and nothing of this one.
        own = sum(piece.nbytes for piece in ops.scratch._pieces.values())
        own += sum(piece.nbytes for piece in ops.scratch._kept)
        assert kept - own <= 1024, (limit, text)


@pytest.mark.parametrize("rule", ['type: "SGD" momentum: 0.9', 'type: "Adam"'])
@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_batch_that_is_said_to_fit_does(share, planned, rule):
    batch = 64
    limit = int(needed(batch, planned=planned, rule=rule) * share)
    text = failure(small(limit), batch, planned=planned, rule=rule)
    found = re.search(r"a batch of (\d+) would fit, this one is 64$", text)
    assert found, text
    fits = int(found[1])
    assert 64 * share / 3 <= fits < 64
    train(small(limit), fits, planned=planned, rule=rule)


def test_parameters_that_do_not_fit():
    text = failure(small(40000), 1, planned=True)
    assert "out of GPU memory at layer '" in text
    assert text.endswith("not even a batch of 1 would fit this GPU")
