"""Dividing batches (strong scaling) and counting records."""

from __future__ import annotations

import pytest

from poseidon_caffe.errors import SolverError
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.solver.batches import (
    divide_batches,
    effective_batch,
    record_counts,
)
from tests.solver.support import INPUT_NET, NET, make_solver

DATA = """
layer { name: "a" type: "Data" top: "a" data_param { batch_size: 12 source: "s" } }
layer { name: "b" type: "ImageData" top: "b" image_data_param { batch_size: 6 } }
layer { name: "c" type: "HDF5Data" top: "c" hdf5_data_param { batch_size: 24 } }
layer { name: "d" type: "WindowData" top: "d" window_data_param { batch_size: 3 } }
layer { name: "e" type: "MemoryData" top: "e"
  memory_data_param { batch_size: 9 channels: 5 height: 7 width: 11 } }
layer { name: "f" type: "DummyData" top: "f" dummy_data_param {
  shape { dim: 15 dim: 7 } shape { dim: 18 } shape { } } }
layer { name: "g" type: "DummyData" top: "g" dummy_data_param {
  num: 6 num: 30 channels: 5 height: 7 width: 7 } }
layer { name: "h" type: "Input" top: "h" input_param { shape { dim: 3 dim: 5 } } }
layer { name: "i" type: "InnerProduct" bottom: "a" top: "i"
  inner_product_param { num_output: 5 } }
"""


def test_every_kind_of_data_layer():
    net = parse_net(DATA)
    divide_batches(net, 3)
    layers = net.layer
    assert layers[0].data_param.batch_size == 4
    assert layers[1].image_data_param.batch_size == 2
    assert layers[2].hdf5_data_param.batch_size == 8
    assert layers[3].window_data_param.batch_size == 1
    memory = layers[4].memory_data_param
    assert (memory.batch_size, memory.channels, memory.height) == (3, 5, 7)
    assert [list(s.dim) for s in layers[5].dummy_data_param.shape] == [[5, 7], [6], []]
    assert list(layers[6].dummy_data_param.num) == [2, 10]
    assert list(layers[6].dummy_data_param.channels) == [5]
    assert list(layers[7].input_param.shape[0].dim) == [1, 5]
    assert layers[8].inner_product_param.num_output == 5


@pytest.mark.parametrize("index", range(8))
def test_what_does_not_divide_is_named(index):
    net = parse_net(DATA)
    layer = net.layer[index]
    with pytest.raises(SolverError, match=f'"{layer.name}" .*cannot be divided by 7'):
        divide_batches(parse_net(f"layer {{ {layer} }}"), 7)


def test_only_the_train_net_is_divided():
    text = NET.replace(
        'layer { name: "ip1"',
        """layer { name: "t" type: "DummyData" top: "other"
        include { phase: TEST } dummy_data_param { shape { dim: 5 } } }
        layer { name: "ip1" """,
        1,
    )
    asked = "test_iter: 1 test_interval: 1"
    solver = make_solver(asked, text, divide_batch=4)
    assert solver.net.blobs["data"].shape == (2, 6)
    assert solver.test_nets[0].blobs["data"].shape == (8, 6)
    assert solver.test_nets[0].blobs["other"].shape == (5,)
    with pytest.raises(SolverError, match=r'layer "data" .* batch of 8 .* by 3 work'):
        make_solver(asked, text, divide_batch=3)


def test_effective_batch():
    assert effective_batch(make_solver("", INPUT_NET).net, 3) == 24
    assert effective_batch(make_solver("", INPUT_NET, divide_batch=2).net, 1) == 4


def test_record_counts(lmdb_solver):
    solver = lmdb_solver("test_iter: 1 test_interval: 1")
    assert record_counts(solver.net) == {"data": 31}
    assert record_counts(solver.test_nets[0]) == {"test": 31}
    assert record_counts(make_solver().net) == {}
