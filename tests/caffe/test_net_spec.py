from __future__ import annotations

import numpy as np
import pytest

import poseidon_caffe.caffe.layers as layers_module
import poseidon_caffe.caffe.params as params_module
from poseidon_caffe import caffe
from poseidon_caffe.caffe import layers as L  # noqa: N812 - as users write it
from poseidon_caffe.caffe import params as P  # noqa: N812
from poseidon_caffe.caffe.net_spec import NotATopError
from poseidon_caffe.errors import UsageError
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt


def lenet():
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(
        shape=[{"dim": [4, 1, 28, 28]}, {"dim": [4]}], transform_param={"scale": 2},
        ntop=2,
    )  # fmt: skip
    n.conv1 = L.Convolution(
        n.data, kernel_size=5, num_output=20, weight_filler={"type": "xavier"},
        param=[{"lr_mult": 1}, {"lr_mult": 2}],
    )  # fmt: skip
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.ip1 = L.InnerProduct(n.pool1, num_output=10)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu1, n.label, loss_weight=0.5)
    return n


LENET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  transform_param { scale: 2 }
  dummy_data_param { shape { dim: 4 dim: 1 dim: 28 dim: 28 } shape { dim: 4 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 10 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss"
  loss_weight: 0.5 }
"""


def test_a_net_as_its_prototxt():
    assert lenet().to_proto() == parse_prototxt(LENET, NetParameter)


def test_a_written_net_can_be_opened(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(str(lenet().to_proto()))
    net = caffe.Net(str(path), caffe.TRAIN)
    assert net.blobs["pool1"].shape == (4, 20, 12, 12)


def test_tops_without_names_are_numbered_by_type():
    data = L.Input(input_param={"shape": {"dim": [1, 3]}})
    first = L.InnerProduct(data, num_output=2)
    second = L.InnerProduct(first, num_output=2)
    net = caffe.to_proto(L.EuclideanLoss(second, data))
    assert [layer.name for layer in net.layer] == [
        "Input1", "InnerProduct1", "InnerProduct2", "EuclideanLoss1",
    ]  # fmt: skip
    assert list(net.layer[3].bottom) == ["InnerProduct2", "Input1"]
    assert second.to_proto() == caffe.to_proto(second)
    assert len(second.to_proto().layer) == 3


def test_layers_without_tops():
    n = caffe.NetSpec()
    n.data = L.Input(ntop=1)
    n.silence = L.Silence(n.data, ntop=0)
    layer = n.to_proto().layer[1]
    assert (layer.name, list(layer.bottom), list(layer.top)) == (
        "silence",
        ["data"],
        [],
    )
    (alone,) = caffe.to_proto(L.Silence(ntop=0)).layer
    assert alone.name == "Silence1"


def test_names_that_are_no_identifiers():
    n = caffe.NetSpec()
    n["a/b"] = L.Input()
    n.c = L.ReLU(n["a/b"], name="other")
    net = n.to_proto()
    assert [layer.name for layer in net.layer] == ["a/b", "other"]
    assert list(net.layer[1].top) == ["c"]
    del n["a/b"], n.c
    assert not n.to_proto().layer


def test_enums_by_number_or_name_and_numpy_values():
    data = L.Input()
    by_name = L.Pooling(data, pool="AVE", kernel_size=np.int64(3)).to_proto().layer[1]
    assert by_name.pooling_param.pool == P.Pooling.AVE
    assert by_name.pooling_param.kernel_size == 3
    power = L.Power(data, scale=np.float32(0.5)).to_proto().layer[1].power_param
    assert power.scale == 0.5


def test_repeated_fields_take_one_value_or_many():
    data = L.Input()
    one = L.Convolution(data, kernel_size=3, stride=[2, 1]).to_proto().layer[1]
    assert list(one.convolution_param.kernel_size) == [3]
    assert list(one.convolution_param.stride) == [2, 1]
    rule = L.ReLU(data, include={"phase": caffe.TEST}).to_proto().layer[1].include
    assert rule[0].phase == caffe.TEST


def test_an_empty_message_is_set():
    layer = L.ReLU(L.Input(), relu_param={}).to_proto().layer[1]
    assert layer.HasField("relu_param")


def test_thousands_of_layers_need_no_deep_recursion():
    top = L.Input()
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: L.Convolution(L.Input(), num_outptu=3), "did you mean 'num_output'"),
        (lambda: L.Convolutio(L.Input(), num_output=3), "did you mean 'Convolution'"),
        (lambda: L.MyOwn(L.Input(), num_output=3), "'MyOwn' is no layer type"),
        (lambda: L.Pooling(L.Input(), pool="MXA"), "expected one of MAX"),
        (lambda: L.ReLU(L.Input(), relu_param={"slope": 1}), "ReLUParameter"),
        (lambda: L.InnerProduct(L.Input(), num_output="ten"), "num_output"),
    ],
)
def test_wrong_settings(make, said):
    with pytest.raises(UsageError, match=said):
        make().to_proto()


def test_wrong_inputs():
    with pytest.raises(UsageError, match="ReLU input 0 is not a Top") as caught:
        L.ReLU("data")
    assert isinstance(caught.value, TypeError)  # as pycaffe's
    assert "those with several tops return a tuple" in caught.value.__notes__[0]
    with pytest.raises(NotATopError, match=r"input 1 .*tuple"):
        L.Eltwise(L.Input(), L.Data(ntop=2))
    with pytest.raises(AttributeError, match="no blob 'missing'"):
        _ = caffe.NetSpec().missing
    with pytest.raises(UsageError, match="received int"):
        caffe.NetSpec().data = 1


def test_modules_by_name():
    assert layers_module.ReLU(L.Input()).to_proto().layer[1].type == "ReLU"
    assert params_module.Eltwise.SUM == 1
    with pytest.raises(AttributeError):
        _ = params_module.NoSuch


def test_settings_can_be_updated():
    n = lenet()
    n.update("ip1", {"num_output": 7, "weight_filler": {"type": "xavier"}})
    layer = next(x for x in n.to_proto().layer if x.name == "ip1")
    assert layer.inner_product_param.num_output == 7
    assert layer.inner_product_param.weight_filler.type == "xavier"
