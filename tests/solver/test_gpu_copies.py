"""Nothing is copied between host and device in a step but its data and its loss."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.solver.solver import Solver, SolverOptions
from tests.devices import gpu_ops
from tests.layers.harness import (
    build_example,
    differentiable,
    example_id,
    fill_bottoms,
    inputs,
    top_weights,
)
from tests.net.support import DATA, conv, fc, layer, loss, replays
from tests.solver.support import make_param

#: Layer types that work on the host, and those that bring data there.
ON_THE_HOST = {"ArgMax", "Filter", "HDF5Output", "Python"}
DATA_LAYERS = {
    "Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData",
}  # fmt: skip

MANY = (
    DATA
    + conv("c", "data")
    + layer("bn", "BatchNorm", "c")
    + layer("sc", "Scale", "bn", "bn", "scale_param { bias_term: true }")
    + layer("r", "ReLU", "bn", "bn")
    + layer("p", "Pooling", "bn", body="pooling_param { kernel_size: 2 stride: 2 }")
    + layer("lrn", "LRN", "p", body="lrn_param { local_size: 3 }")
    + conv("c1", "lrn")
    + conv("c2", "lrn")
    + layer("sum", "Eltwise", "c1 c2", "sum")
    + layer("cat", "Concat", "sum lrn", "cat")
    + layer("drop", "Dropout", "cat", "cat")
    + fc("f", "cat")
    + loss("loss", "f label")
    + layer("acc", "Accuracy", "f label")
)


def copies():
    counted = gpu_ops().device.copies
    return np.array(
        [counted.to_device, counted.to_host, counted.to_device_bytes,
         counted.to_host_bytes]
    )  # fmt: skip


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("rule", ['type: "SGD" momentum: 0.9', 'type: "Adam"'])
def test_a_step_uploads_data_and_downloads_a_loss(rule, planned, recorded):
    param = make_param(f'{rule} snapshot_prefix: "p" display: 0', MANY)
    options = NetOptions(fuse=planned, share_memory=planned, capture=recorded)
    solver = Solver(param, ops=gpu_ops(), options=SolverOptions(net=options))
    data, label = solver.net.blobs["data"], solver.net.blobs["label"]
    rng = np.random.default_rng(0)
    for number in range(6):
        data.mutable_cpu_data[...] = rng.standard_normal(data.shape)
        label.mutable_cpu_data[...] = rng.integers(0, 5, label.shape)
        before = copies()
        solver.step(1)
        if number < 3:
            continue  # warming up
        uploads, downloads, up_bytes, down_bytes = copies() - before
        assert (uploads, downloads) == (2, 1)
        assert up_bytes == 4 * (data.count + label.count)
        assert down_bytes == 16
    assert solver.net._replay is None or replays(solver.net)


def test_data_that_stays_is_not_copied_again():
    param = make_param('type: "SGD" snapshot_prefix: "p"', MANY)
    options = SolverOptions(net=NetOptions(True, True, capture=True))
    solver = Solver(param, ops=gpu_ops(), options=options)
    solver.step(3)
    before = copies()
    solver.step(4)
    assert (copies() - before).tolist() == [0, 4, 0, 4 * 16]


def run_once(run, layer_class_: type[Layer], example: Example) -> None:
    run.layer.forward(run.bottom, run.top)
    if layer_class_.backward is not Layer.backward:
        down = differentiable(layer_class_, example)
        run.layer.backward(run.top, down, run.bottom)


PAIRS = [
    (layer_class(name), example)
    for name in known_types()
    if name not in ON_THE_HOST | DATA_LAYERS
    for example in layer_class(name).examples()
]


@pytest.mark.parametrize("pair", PAIRS, ids=example_id)
def test_no_layer_copies_anything(pair):
    cls, example = pair
    run = build_example(cls, example, ops=gpu_ops())
    fill_bottoms(run, inputs(example))
    run.set_top_diffs(top_weights(run))
    for _ in range(2):
        run.layer.reshape(run.bottom, run.top)
        run_once(run, cls, example)
    before = copies()
    allocations = gpu_ops().memory.allocations
    run_once(run, cls, example)
    assert (copies() - before).tolist() == [0] * 4
    # Nor does it make arrays: what it does can be recorded.
    assert gpu_ops().memory.allocations == allocations


def test_the_exceptions_are_what_the_types_say():
    for name in sorted(set(known_types())):
        cls = layer_class(name)
        said = cls.works_on_host or cls.runs_user_code
        assert said == (name in ON_THE_HOST), name
    assert set(known_types()) >= DATA_LAYERS | ON_THE_HOST - {"Python"}


def test_a_data_layer_uploads_one_parcel_a_step(tmp_path):
    pytest.importorskip("lmdb")
    path, rng = tmp_path / "db", np.random.default_rng(0)
    with create_db(path, "lmdb") as db:
        for i in range(20):
            image = rng.integers(0, 255, (1, 12, 12)).astype(np.uint8)
            db.put(b"%08d" % i, array_to_datum(image, i % 4).SerializeToString())
    body = f'data_param {{ source: "{path}" backend: LMDB batch_size: 4 }}'
    body += "transform_param { scale: 0.01 mirror: true crop_size: 10 }"
    text = layer("data", "Data", tops="data label", body=body) + conv("c", "data")
    text += layer("r", "ReLU", "c", "c") + fc("f", "c") + loss("loss", "f label")
    param = make_param('type: "SGD" momentum: 0.9 snapshot_prefix: "p"', text)
    options = SolverOptions(net=NetOptions(True, True, capture=True))
    solver = Solver(param, ops=gpu_ops(), options=options)
    try:
        solver.step(3)
        before = copies()
        solver.step(16)
        up, down, _, down_bytes = copies() - before
    finally:
        solver.net.close()
    assert (down, down_bytes) == (16, 16 * 16)
    # Batches are uploaded ahead, by a thread: some more or less of them.
    assert abs(up - 16) <= 4
    assert replays(solver.net) == [17]
