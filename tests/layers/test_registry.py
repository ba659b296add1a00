"""Types by name."""

from __future__ import annotations

import pytest

from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.layers.registry import known_types, layer_class, register

ISSUE_2 = [
    "Input",
    "DummyData",
    "Convolution",
    "Pooling",
    "InnerProduct",
    "ReLU",
    "PReLU",
    "Sigmoid",
    "TanH",
    "LRN",
    "Dropout",
    "BatchNorm",
    "Scale",
    "Bias",
    "Eltwise",
    "Concat",
    "Slice",
    "Split",
    "Flatten",
    "Reshape",
    "Softmax",
    "SoftmaxWithLoss",
    "EuclideanLoss",
    "SigmoidCrossEntropyLoss",
    "ContrastiveLoss",
    "Accuracy",
    "ArgMax",
    "Silence",
    "Power",
]


def test_knows_what_is_there():
    assert set(ISSUE_2) <= set(known_types())
    assert all(layer_class(name).type == name for name in known_types())


def test_unknown_type_names_layer_near_match_and_known():
    with pytest.raises(LayerError) as caught:
        layer_class("Convolutoin", where="conv1")
    text = str(caught.value)
    assert '"conv1"' in text
    assert 'did you mean "Convolution"?' in text
    assert "SoftmaxWithLoss" in text


def test_a_name_is_taken_once():
    with pytest.raises(LayerError, match="registered twice"):
        register("ReLU")(type("Other", (Layer,), {}))
