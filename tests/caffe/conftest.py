from __future__ import annotations

import pytest

from poseidon_caffe import caffe

SMALL = """
name: "small"
force_backward: true
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 2 dim: 6 dim: 7 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param {
  num_output: 3 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
  loss_weight: 2 }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "extra" type: "ReLU" bottom: "ip" top: "extra"
  include { stage: "more" min_level: 2 } }
"""

SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 2
momentum: 0.9 max_iter: 6 display: 2 snapshot_prefix: "snap" test_iter: 2
test_interval: 3 random_seed: 7
"""


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def solver_file(net_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER)
    return str(path)


@pytest.fixture(autouse=True)
def _as_if_freshly_imported():
    """Tests change the face's process-wide state; each begins with none."""
    from poseidon_caffe.caffe import glog, state

    caffe.init_log(2)
    state._state.seed = None
    yield
    state._state.seed = None
    glog._log.clear()
