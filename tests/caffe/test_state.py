from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe import state
from poseidon_caffe.errors import BackendError, UsageError

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "z" }
"""


@pytest.fixture
def opened(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return lambda: caffe.Net(str(path), caffe.TRAIN)


def _draws(net):
    net.blobs["x"].data[...] = 1
    net.forward()
    return net.params["ip"][0].data.copy(), net.blobs["z"].data.copy()


def test_a_seed_makes_nets_repeatable(opened):
    caffe.set_random_seed(5)
    first, second = _draws(opened()), _draws(opened())
    caffe.set_random_seed(5)
    again = _draws(opened())
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != second[0]).any()


def test_without_a_seed_every_net_is_another(opened):
    assert (_draws(opened())[0] != _draws(opened())[0]).any()


def test_gpu_mode_without_a_gpu_says_why_and_goes_on(opened, monkeypatch):
    def none_here(device: int) -> None:
        raise BackendError(f"no such GPU: {device}")

    monkeypatch.setattr(state, "check_gpu", none_here)
    caffe.set_device(0)
    with pytest.warns(RuntimeWarning, match="no such GPU: 0; nets run on the CPU"):
        caffe.set_mode_gpu()
    assert opened()._core.ops.name != "gpu"
    caffe.set_mode_cpu()
    opened().forward()
    assert not caffe.has_nccl()


def test_backends(opened, monkeypatch):
    with caffe.use_backend("reference"):
        assert opened()._core.ops.name == "reference"
    monkeypatch.setenv(state.BACKEND_VARIABLE, "reference")
    assert opened()._core.ops.name == "reference"
    monkeypatch.setenv(state.BACKEND_VARIABLE, "abacus")
    with pytest.raises(BackendError, match="abacus"):
        opened()


def test_nets_of_a_process_share_their_backend(opened):
    assert opened()._core.ops is opened()._core.ops


def test_solver_counts():
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    caffe.set_multiprocess(True)
    try:
        assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
        with pytest.raises(UsageError, match="positive"):
            caffe.set_solver_count(0)
    finally:
        caffe.set_solver_count(1)
        caffe.set_solver_rank(0)
        caffe.set_multiprocess(False)


def test_layer_type_list():
    known = caffe.layer_type_list()
    assert {"Convolution", "InnerProduct", "ReLU", "SoftmaxWithLoss"} <= set(known)


def test_version_is_caffes():
    assert caffe.__version__ == "1.0.0"
