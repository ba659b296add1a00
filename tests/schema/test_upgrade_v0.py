from __future__ import annotations

import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.schema.upgrade_v0 import upgrade_v0


def _net(text):
    return parse_prototxt(text, messages.NetParameter)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            (
                'type: "conv" num_output: 2 biasterm: false pad: 1 kernelsize: 3 '
                'group: 2 stride: 4 weight_filler { type: "xavier" } '
                "bias_filler { value: 1 }"
            ),
            (
                "type: CONVOLUTION convolution_param { num_output: 2 bias_term: false "
                "pad: 1 kernel_size: 3 group: 2 stride: 4 "
                'weight_filler { type: "xavier" } '
                "bias_filler { value: 1 } }"
            ),
        ),
        (
            (
                'type: "innerproduct" num_output: 2 biasterm: true '
                "weight_filler { std: 1 }"
            ),
            (
                "type: INNER_PRODUCT inner_product_param { num_output: 2 bias_term: "
                "true weight_filler { std: 1 } }"
            ),
        ),
        (
            'type: "pool" pool: STOCHASTIC kernelsize: 3 stride: 2 pad: 1',
            (
                "type: POOLING pooling_param { pool: STOCHASTIC kernel_size: 3 stride: "
                "2 pad: 1 }"
            ),
        ),
        (
            'type: "lrn" local_size: 3 alpha: 1 beta: 2 k: 3',
            "type: LRN lrn_param { local_size: 3 alpha: 1 beta: 2 k: 3 }",
        ),
        (
            'type: "dropout" dropout_ratio: 0.2',
            "type: DROPOUT dropout_param { dropout_ratio: 0.2 }",
        ),
        (
            (
                'type: "data" source: "s" meanfile: "m" scale: 2 cropsize: 3 mirror: '
                "true batchsize: 4 rand_skip: 5"
            ),
            (
                'type: DATA transform_param { mean_file: "m" scale: 2 crop_size: 3 '
                'mirror: true } data_param { source: "s" batch_size: 4 rand_skip: 5 }'
            ),
        ),
        (
            (
                'type: "images" source: "s" batchsize: 4 rand_skip: 5 shuffle_images: '
                "true new_height: 6 new_width: 7"
            ),
            (
                'type: IMAGE_DATA image_data_param { source: "s" batch_size: 4 '
                "rand_skip: 5 shuffle: true new_height: 6 new_width: 7 }"
            ),
        ),
        (
            (
                'type: "window_data" source: "s" batchsize: 4 det_fg_threshold: 0.1 '
                "det_bg_threshold: 0.2 det_fg_fraction: 0.3 det_context_pad: 1 "
                'det_crop_mode: "c"'
            ),
            (
                'type: WINDOW_DATA window_data_param { source: "s" batch_size: 4 '
                "fg_threshold: 0.1 bg_threshold: 0.2 fg_fraction: 0.3 context_pad: 1 "
                'crop_mode: "c" }'
            ),
        ),
        (
            'type: "hdf5_data" source: "s" batchsize: 4',
            'type: HDF5_DATA hdf5_data_param { source: "s" batch_size: 4 }',
        ),
        (
            'type: "hdf5_output" hdf5_output_param { file_name: "f" }',
            'type: HDF5_OUTPUT hdf5_output_param { file_name: "f" }',
        ),
        (
            'type: "infogain_loss" source: "s"',
            'type: INFOGAIN_LOSS infogain_loss_param { source: "s" }',
        ),
        ('type: "concat" concat_dim: 0', "type: CONCAT concat_param { concat_dim: 0 }"),
        (
            'type: "relu" blobs_lr: 1 weight_decay: 2',
            "type: RELU blobs_lr: 1 weight_decay: 2",
        ),
    ],
)
def test_settings(old, new):
    net = _net(f'layers {{ layer {{ name: "n" {old} }} bottom: "a" top: "b" }}')
    assert upgrade_v0(net, "f") == []
    assert net == _net(f'layers {{ name: "n" {new} bottom: "a" top: "b" }}')


def test_every_type_has_a_v1_type():
    types = [
        *("accuracy", "bnll", "concat", "conv", "data", "dropout", "euclidean_loss"),
        *("flatten", "hdf5_data", "hdf5_output", "im2col", "images", "infogain_loss"),
        *("innerproduct", "lrn", "multinomial_logistic_loss", "pool", "relu"),
        *("sigmoid", "softmax", "softmax_loss", "split", "tanh", "window_data"),
    ]
    net = _net("".join(f'layers {{ layer {{ type: "{each}" }} }}' for each in types))
    upgrade_v0(net, "f")
    assert len({layer.type for layer in net.layers}) == len(types)


def test_settings_without_a_place_are_dropped_with_a_note():
    net = _net('layers { layer { name: "r" type: "relu" num_output: 3 new_num: 1 } }')
    notes = upgrade_v0(net, "f")
    assert len(notes) == 2
    assert (
        notes[0] == "f: layer 'r': the type 'relu' has no use for 'num_output': dropped"
    )
    assert net == _net('layers { name: "r" type: RELU }')


PADDED = """
layers {{ layer {{ name: "p" type: "padding" pad: 2 }} bottom: "a" {top} }}
layers {{ layer {{ name: "c" type: "{type}" }} bottom: "q" {bottom} top: "c" }}
"""


def test_padding_is_folded():
    net = _net(PADDED.format(type="conv", top='top: "q"', bottom=""))
    upgrade_v0(net, "f")
    assert net == _net(
        'layers { name: "c" type: CONVOLUTION bottom: "a" top: "c" '
        "convolution_param { pad: 2 } }"
    )


@pytest.mark.parametrize(
    ("kind", "top", "bottom", "said"),
    [
        ("relu", 'top: "q"', "", "'p' feeds 'c', which is no convolution or pooling"),
        ("conv", 'top: "q"', 'bottom: "b"', "feeds 'c', which has 2 bottoms"),
        ("pool", 'top: "q" top: "r"', "", "must have one bottom and one top"),
    ],
)
def test_padding_that_cannot_be_folded(kind, top, bottom, said):
    net = _net(PADDED.format(type=kind, top=top, bottom=bottom))
    with pytest.raises(ParseError, match=f"f: the padding layer .*{said}"):
        upgrade_v0(net, "f")


def test_unknown_type():
    net = _net('layers { layer { name: "n" type: "convv" } }')
    with pytest.raises(ParseError, match=r"layer 'n': .*'convv'; did you mean 'conv'"):
        upgrade_v0(net, "f")


def test_mixture_with_v1():
    net = _net('layers { layer { name: "n" } } layers { name: "m" type: RELU }')
    with pytest.raises(ParseError, match="the layer 'm' is in the format"):
        upgrade_v0(net, "f")
