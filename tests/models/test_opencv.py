"""OpenCV's DNN module reads nets trained here and finds the same classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.data.digits import load_digits

cv2 = pytest.importorskip("cv2")

MODELS = Path(__file__).resolve().parents[2] / "models"
BATCH = 32
STEPS = 30

# Every kind of layer that nets of the zoo are made of, LRN and Dropout included.
BODY = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 bias_term: false
    weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1"
  batch_norm_param { moving_average_fraction: 0.8 } }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1"
  scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
  lrn_param { local_size: 3 alpha: 0.01 beta: 0.75 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "left" type: "Convolution" bottom: "pool1" top: "left"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2
    weight_filler { type: "msra" } } }
layer { name: "right" type: "Convolution" bottom: "pool1" top: "right"
  convolution_param { num_output: 8 kernel_size: 1
    weight_filler { type: "msra" } bias_filler { value: 0.1 } } }
layer { name: "prelu" type: "PReLU" bottom: "right" top: "right" }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum"
  eltwise_param { operation: SUM coeff: 1 coeff: 0.5 } }
layer { name: "cat" type: "Concat" bottom: "sum" bottom: "pool1" top: "cat" }
layer { name: "pool2" type: "Pooling" bottom: "cat" top: "pool2"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool2" top: "pool2" }
layer { name: "ip" type: "InnerProduct" bottom: "pool2" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
"""
SIDE = 27  # neither pooling comes out even
INPUT = """
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: {} dim: 1 dim: {} dim: {} }} }} }}
"""
LABEL = f"""
layer {{ name: "label" type: "Input" top: "label"
  input_param {{ shape {{ dim: {BATCH} }} }} }}
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "NAME" bottom: "label"
  top: "loss" }
"""
PROB = """
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
SOLVER = """
net: "train.prototxt" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 max_iter: 30
random_seed: 3 snapshot_prefix: "net"
"""


@pytest.fixture(scope="module")
def digits():
    train, test = load_digits()
    return train, test


def _scaled(images, side):
    return images[:, np.newaxis, :side, :side].astype(np.float32) / 256


def _train(folder, text, digits, side):
    """Train on real digits for a while; the weights' file."""
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(SOLVER)
    caffe.set_random_seed(3)
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    train, _ = digits
    data, label = solver.net.blobs["data"], solver.net.blobs["label"]
    losses = []
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        data.data[...] = _scaled(train.images[rows], side)
        label.data[...] = train.labels[rows]
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    solver.net.save(str(folder / "net.caffemodel"))
    return str(folder / "net.caffemodel")


def _agree(deploy, weights, images):
    net = caffe.Net(deploy, caffe.TEST, weights=weights)
    ours = net.forward_all(data=images)["prob"]
    other = cv2.dnn.readNetFromCaffe(deploy, weights)
    other.setInput(images)
    theirs = other.forward("prob")
    assert ours.shape == theirs.shape == (len(images), 10)
    # Neither all alike, nor one class for all: there is something to agree about.
    assert len(set(ours.argmax(axis=1))) > 3
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


def test_lenet(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    deploy = MODELS / "lenet" / "deploy.prototxt"
    layers = deploy.read_text().partition("layer {")[2].partition("layer {")[2]
    body = ("layer {" + layers).rpartition("layer {")[0]
    body = body.replace(
        "kernel_size: 5", 'kernel_size: 5 weight_filler { type: "msra" }'
    )
    body = body.replace(
        "num_output: 500", 'num_output: 500 weight_filler { type: "msra" }'
    )
    body = body.replace(
        "num_output: 10 ", 'num_output: 10 weight_filler { type: "msra" } '
    )
    text = INPUT.format(BATCH, 28, 28) + LABEL + body + LOSS.replace("NAME", "ip2")
    weights = _train(tmp_path, text, digits, 28)
    _agree(str(deploy), weights, _scaled(digits[1].images[:96], 28))


def test_net_of_many_layers(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    text = INPUT.format(BATCH, SIDE, SIDE) + LABEL + BODY + LOSS.replace("NAME", "ip")
    weights = _train(tmp_path, text, digits, SIDE)
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(INPUT.format(1, SIDE, SIDE) + BODY + PROB)
    _agree(str(deploy), weights, _scaled(digits[1].images[:48], SIDE))
