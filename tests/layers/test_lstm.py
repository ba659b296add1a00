"""LSTM in nets: parameter blocks, files, sharing, memory, learning."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from tests.net.support import gradients, make_net

INPUTS = """
layer { name: "in" type: "Input" top: "x" top: "cont" top: "label" input_param {
  shape { dim: 6 dim: 16 dim: 4 } shape { dim: 6 dim: 16 } shape { dim: 6 dim: 16 } } }
"""

LSTM = """
layer {{ name: "{name}" type: "LSTM" bottom: "{bottom}" bottom: "cont" top: "{name}"
  {body}
  recurrent_param {{ num_output: 16
    weight_filler {{ type: "uniform" min: -0.3 max: 0.3 }}
    bias_filler {{ type: "constant" value: 0 }} }} }}
"""

PREDICT = """
layer { name: "predict" type: "InnerProduct" bottom: "lstm" top: "predict"
  inner_product_param { num_output: 4 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "predict" bottom: "label"
  top: "loss" loss_weight: 6 loss_param { ignore_label: -1 } softmax_param { axis: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "predict" bottom: "label"
  top: "accuracy" accuracy_param { axis: 2 ignore_label: -1 } include { phase: TEST } }
"""

# As in LRCN: streams of sequences, begun by cont, two layers, some labels ignored.
TEXT = INPUTS + LSTM.format(name="lstm", bottom="x", body="") + PREDICT


def batch(rng):
    """Sequences whose first symbol must be told at every later step."""
    symbols = rng.integers(0, 4, (6, 16))
    cont = np.ones((6, 16))
    cont[0] = 0
    label = np.repeat(symbols[:1], 6, axis=0)
    label[0] = -1
    return np.eye(4)[symbols], cont, label


def feed(net, rng):
    for name, values in zip(("x", "cont", "label"), batch(rng), strict=True):
        net.blobs[name].data[...] = values


@pytest.fixture
def solver_file(tmp_path):
    net, path = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net.write_text(TEXT)
    path.write_text(
        f'net: "{net}" base_lr: 0.03 lr_policy: "fixed" type: "Adam" momentum: 0.9 '
        "momentum2: 0.99 clip_gradients: 10 random_seed: 3 test_interval: 1000 "
        "test_iter: 1 test_initialization: false max_iter: 1000 "
        f'snapshot_prefix: "{tmp_path / "snap"}"'
    )
    return str(path)


def test_learns_to_remember(solver_file):
    solver = caffe.get_solver(solver_file)
    rng = np.random.default_rng(1)
    for _ in range(120):
        feed(solver.net, rng)
        solver.step(1)
    test = solver.test_nets[0]
    test.share_with(solver.net)
    feed(test, rng)
    assert test.forward()["accuracy"] > 0.95


def test_a_resumed_run_goes_on_from_the_same_states(solver_file, tmp_path):
    """With cont 1 at the first step, what was read before the snapshot matters."""
    whole, resumed = caffe.get_solver(solver_file), caffe.get_solver(solver_file)
    for solver in (whole, resumed):
        feed(solver.net, np.random.default_rng(1))
        solver.net.blobs["cont"].data[...] = 1
    whole.step(2)
    whole.snapshot()
    resumed.restore(str(tmp_path / "snap_iter_2.solverstate"))
    for solver in (whole, resumed):
        solver.step(2)
    for name, blobs in whole.net.params.items():
        for a, b in zip(blobs, resumed.net.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def two_layers(first="", second=""):
    below = LSTM.format(name="below", bottom="x", body=first)
    return (
        INPUTS
        + below
        + LSTM.format(name="lstm", bottom="below", body=second)
        + (PREDICT)
    )


def test_multipliers_go_by_the_order_of_the_parameters():
    body = (
        "param { lr_mult: 2 } param { lr_mult: 3 decay_mult: 0 } param { lr_mult: 0 }"
    )
    slots = make_net(TEXT.replace('top: "lstm"', f'top: "lstm" {body}')).slots
    assert [(s.shape, s.lr_mult, s.decay_mult) for s in slots[:3]] == [
        ((64, 4), 2, 1), ((64,), 3, 0), ((64, 16), 0, 1),
    ]  # fmt: skip


def test_recurrent_weights_may_be_shared_by_name():
    body = "param {} param {} param { name: 'w_hc' }"
    net = make_net(two_layers(body, body))
    below, above = (layer for layer in net.layers if layer.type == "LSTM")
    assert np.shares_memory(below.blobs[2].data, above.blobs[2].data)
    assert len(net.learnable) == 7
    feed(net, np.random.default_rng(2))
    _, grads = gradients(net)
    assert all(np.abs(g).max() > 0 for g in grads)


@pytest.mark.parametrize("way", ["caffemodel", "caffemodel.h5"])
def test_parameters_survive_a_file(tmp_path, way):
    net, other = make_net(TEXT, seed=1), make_net(TEXT, seed=2)
    path = tmp_path / f"net.{way}"
    (net.save if way == "caffemodel" else net.save_hdf5)(path)
    other.copy_trained_from(str(path))
    for a, b in zip(net.learnable, other.learnable, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    for n in (net, other):
        feed(n, np.random.default_rng(2))
    assert net.forward() == other.forward()


def test_shared_memory_changes_no_gradient():
    found = []
    for options in ({}, {"share_memory": True, "fuse": True}):
        net = make_net(two_layers(), **options)
        feed(net, np.random.default_rng(2))
        found.append(gradients(net))
    (loss, grads), (same, others) = found
    assert loss == pytest.approx(same, rel=1e-6)
    for a, b in zip(grads, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_states_are_part_of_what_a_net_resumes_with():
    net, again = make_net(TEXT), make_net(TEXT)
    for n in (net, again):
        feed(n, np.random.default_rng(2))
        n.blobs["cont"].data[...] = 1
    net.forward()
    again.restore_state(net.state())
    assert net.forward() == again.forward()
    assert net.forward() != make_net(TEXT).forward()
