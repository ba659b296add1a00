"""Small solvers for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.schema.upgrade import parse_net, parse_solver
from poseidon_caffe.solver.solver import Solver, SolverOptions

GOLDEN = Path(__file__).parents[1] / "golden"

NET = """
name: "tiny"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param {
    shape { dim: 8 dim: 6 } shape { dim: 8 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label"
  top: "loss" }
"""

#: The same with data that the tests put in themselves.
INPUT_NET = """
name: "tiny"
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 8 dim: 6 } shape { dim: 8 } } }
""" + NET[NET.index('layer { name: "ip1"') :]

BASE = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 10 random_seed: 3 '


class Recorder:
    """Keeps every event."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def names(self):
        return [type(event).__name__ for event in self.events]


def make_param(text="", net=INPUT_NET):
    """A SolverParameter: `BASE`, then ``text`` (which may override), with ``net``."""
    param = parse_solver(BASE)
    param.MergeFrom(parse_solver(text))
    if net is not None:
        param.net_param.CopyFrom(parse_net(net))
    return param


def make_solver(
    text="", text_net=INPUT_NET, *, events=(), backend="reference", **options
):
    return Solver(
        make_param(text, text_net),
        ops=get_ops(backend),
        options=SolverOptions(**options),
        events=events,
    )


def feed(solver, seed=0):
    """Random data and labels in an `INPUT_NET`."""
    random = np.random.default_rng(seed)
    for net in (solver.net, *solver.test_nets):
        net.blobs["data"].data[...] = random.standard_normal((8, 6))
        net.blobs["label"].data[...] = random.integers(0, 4, 8)


def weights(solver):
    return [blob.data.copy() for blob in solver.net.learnable]


LMDB_NET = """
name: "records"
layer {{ name: "data" type: "Data" top: "data" top: "label"
  include {{ phase: TRAIN }} transform_param {{ crop_size: 5 mirror: true scale: 0.01 }}
  data_param {{ source: "{folder}/lmdb" backend: LMDB batch_size: 7 }} }}
layer {{ name: "test" type: "Data" top: "data" top: "label"
  include {{ phase: TEST }} transform_param {{ crop_size: 5 scale: 0.01 }}
  data_param {{ source: "{folder}/lmdb" backend: LMDB batch_size: 4 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 3
    weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label"
  top: "loss" }}
"""


def write_lmdb(folder):
    """31 records of 1x6x6 in three classes; the number divides no batch."""
    random = np.random.default_rng(8)
    with create_db(str(folder / "lmdb")) as writer:
        for i in range(31):
            image = random.integers(0, 256, (1, 6, 6)).astype(np.uint8)
            datum = array_to_datum(image, i % 3)
            writer.put(b"%08d" % i, datum.SerializeToString())


def digest(solver):
    """Every bit that training has made: parameters and history."""
    arrays = [*weights(solver), *solver.history.shaped()]
    return [array.tobytes() for array in arrays]
