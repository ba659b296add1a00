from __future__ import annotations

import pytest

from poseidon_caffe import caffe


def test_layers_show_type_and_parameters(net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    conv = net.layers[net._layer_names.index("conv")]
    assert (conv.name, conv.type) == ("conv", "Convolution")
    assert [blob.shape for blob in conv.blobs] == [(5, 2, 3, 3), (5,)]
    conv.blobs[1].data[...] = 3
    assert (net.params["conv"][1].data == 3).all()
    assert len(net.layer_dict["relu"].blobs) == 0
    assert repr(conv) == "<Layer 'conv' (Convolution)>"


def test_the_base_class_alone_does_nothing():
    from poseidon_caffe.errors import LayerError

    layer = caffe.Layer(caffe.proto.caffe_pb2.LayerParameter(name="l", type="Python"))
    assert (layer.name, layer.type, len(layer.blobs)) == ("l", "Python", 0)
    assert layer.resume_state() == {}
    layer.setup([], [])
    for call in (layer.reshape, layer.forward):
        with pytest.raises(LayerError, match=r'layer "l" .* class Layer defines no'):
            call([], [])
    with pytest.raises(LayerError, match=r"defines no backward\(\)"):
        layer.backward([], [], [])
