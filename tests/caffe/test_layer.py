from __future__ import annotations

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
