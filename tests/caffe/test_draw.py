from __future__ import annotations

import shutil

import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe import draw
from poseidon_caffe.caffe.proto import caffe_pb2
from poseidon_caffe.errors import PoseidonError, UsageError
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt

NET = """
name: "A net"
layer { name: "in" type: "Data" top: "data" top: "label" data_param { batch_size: 7 }
  include { phase: TRAIN } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "up" top: "ip:0"
  inner_product_param { num_output: 3 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip:0" bottom: "label" top: "node"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip:0" bottom: "label" top: "loss"
  exclude { phase: TEST } }
"""


@pytest.fixture
def net():
    return parse_prototxt(NET, NetParameter)


def _nodes(graph):
    return {
        node.get_name().strip('"'): node.get_attributes() for node in graph.get_nodes()
    }


def test_graph(net):
    graph = draw.get_pydot_graph(net, "LR")
    assert graph.get_type() == "digraph"
    assert graph.get_name() == '"A net"'
    assert graph.get_attributes()["rankdir"] == "LR"
    nodes = _nodes(graph)
    colors = {
        name: attributes.get("fillcolor", "").strip('"')
        for name, attributes in nodes.items()
    }
    assert colors == {
        r"in\n(Data)": "#6495ED",
        "data": "#E0E0E0",
        "label": "#E0E0E0",
        r"conv\n(Convolution)\nkernel size: 3\nstride: 2\npad: 1": "#FF5050",
        "conv": "#E0E0E0",
        r"relu\n(ReLU)": "#90EE90",
        r"pool\n(Pooling AVE)\nkernel size: 2\nstride: 1\npad: 0": "#FF9900",
        "pool": "#E0E0E0",
        r"up\n(Deconvolution)\nkernel size: 1\nstride: 1\npad: 0": "#FF5050",
        "up": "#E0E0E0",
        r"ip\n(InnerProduct)": "#CC33FF",
        "ip:0": "#E0E0E0",
        r"accuracy\n(Accuracy)": "#6495ED",
        "node": "",
        r"loss\n(SoftmaxWithLoss)": "#6495ED",
        "loss": "",
    }
    assert nodes["data"]["shape"] == "octagon"
    assert nodes[r"relu\n(ReLU)"]["shape"] == "record"


def test_edges_tell_outputs(net):
    def bare(text):
        return text.strip('"')

    edges = {
        (bare(edge.get_source()), bare(edge.get_destination())): bare(edge.get_label())
        for edge in draw.get_pydot_graph(net, "TB").get_edges()
    }
    told = {pair[0].split(" ")[0]: label for pair, label in edges.items() if label}
    assert told == {"in": "Batch 7", "conv": "5", "up": "4", "ip": "3"}
    assert ("conv", "relu (ReLU)") in edges
    assert ("relu (ReLU)", "conv") in edges
    silent = draw.get_pydot_graph(net, "TB", label_edges=False)
    assert {edge.get_label() for edge in silent.get_edges()} == {'""'}


def test_phases(net):
    def layers(phase):
        names = _nodes(draw.get_pydot_graph(net, "TB", phase=phase))
        return {name.split(" ")[0] for name in names if " (" in name}

    common = {"conv", "relu", "pool", "up", "ip"}
    assert layers(None) == common | {"in", "accuracy", "loss"}
    assert layers(caffe.TRAIN) == common | {"in", "loss"}
    assert layers(caffe.TEST) == common | {"accuracy"}
    net.layer[0].exclude.add(phase=caffe.TEST)
    with pytest.raises(ValueError, match="layer 'in' has both include and exclude"):
        layers(caffe.TEST)


def test_learning_rates(net):
    conv, relu = net.layer[1], net.layer[2]
    assert draw.get_layer_lr_mult(conv) == (1, 2)
    assert draw.get_layer_label(conv, "BT", display_lrm=True) == (
        '"conv (Convolution) kernel size: 3 stride: 2 pad: 1 lr mult: 1.0, 2.0"'
    )
    del conv.param[1]
    assert draw.get_layer_lr_mult(conv) == (1, 1)
    conv.param[0].lr_mult = 0
    conv.param.add(lr_mult=0)
    assert "lr mult" not in draw.get_layer_label(conv, "LR", display_lrm=True)
    conv.param.add()
    with pytest.raises(ValueError, match="3 'param'"):
        draw.get_layer_lr_mult(conv)
    with pytest.raises(ValueError, match="ReLU"):
        draw.get_layer_lr_mult(relu)


def test_small_helpers(net):
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
    assert draw.choose_color_by_layertype("Pooling") == "#FF9900"
    assert draw.choose_color_by_layertype("Anything") == "#6495ED"
    assert draw.get_edge_label(net.layer[2]) == '""'


def test_old_nets_are_drawn_and_left_as_they_are():
    net = caffe_pb2.NetParameter()
    net.layers.add(
        name="old", type=caffe_pb2.V1LayerParameter.RELU, bottom=["a"], top=["b"]
    )
    before = net.SerializeToString()
    assert b"old (ReLU)" in draw.draw_net(net, "TB", "raw")
    assert net.SerializeToString() == before


def test_text_needs_no_graphviz(net, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for ending in ("dot", "gv", "raw"):
        path = tmp_path / f"net.{ending}"
        draw.draw_net_to_file(net, str(path), "TB", caffe.TEST)
        assert path.read_text().startswith('digraph "A net" {')
        assert "SoftmaxWithLoss" not in path.read_text()
    with pytest.raises(UsageError, match="apt-get install graphviz"):
        draw.draw_net_to_file(net, tmp_path / "net.png")
    assert not (tmp_path / "net.png").exists()
    with pytest.raises(UsageError, match="must end in a format"):
        draw.draw_net_to_file(net, tmp_path / "net")


@pytest.mark.skipif(not shutil.which("dot"), reason="no Graphviz")
def test_pictures(net, tmp_path):
    net.layer[2].name = 'a "name" with {marks} | <and> so on'
    draw.draw_net_to_file(net, tmp_path / "net.PNG", display_lrm=True)
    assert (tmp_path / "net.PNG").read_bytes().startswith(b"\x89PNG")
    picture = draw.draw_net(net, "LR", "svg").decode()
    for text in (
        "a &quot;name&quot; with {marks} | &lt;and&gt; so on",
        ">ip:0<",
        ">node<",
    ):
        assert text in picture.replace("&#45;", "-").replace("&#160;", " ")
    with pytest.raises(UsageError, match="nonsense"):
        draw.draw_net(net, "LR", "nonsense")


def test_without_pydot(net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydot", None)
    with pytest.raises(PoseidonError, match=r"poseidon-caffe\[draw\]"):
        draw.draw_net(net, "LR", "dot")
