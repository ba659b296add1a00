from __future__ import annotations

import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.schema.upgrade_v1 import (
    move_transforms,
    needs_transforms,
    upgrade_v1,
)


def _net(text):
    return parse_prototxt(text, messages.NetParameter)


def test_every_type():
    """Each V1 type has a name of today that differs in case and underscores only."""
    renamed = {"SOFTMAXLOSS": "SOFTMAXWITHLOSS", "NONE": ""}
    for name, number in messages.V1LayerParameter.LayerType.items():
        net = messages.NetParameter()
        net.layers.add(type=number)
        upgrade_v1(net, "f")
        flat = name.replace("_", "")
        assert net.layer[0].type.upper() == renamed.get(flat, flat)


def test_parameters_of_layers():
    net = _net(
        """
        layers {
          name: "n" type: INNER_PRODUCT bottom: "a" top: "b" loss_weight: 2
          include { phase: TEST } exclude { stage: "s" }
          blobs_lr: 1 blobs_lr: 0
          weight_decay: 0.5
          param: "w" param: "b" param: "c"
          blob_share_mode: PERMISSIVE
          blobs { num: 1 data: 3 }
          inner_product_param { num_output: 4 }
        }
        """
    )
    upgrade_v1(net, "f")
    assert net == _net(
        """
        layer {
          name: "n" type: "InnerProduct" bottom: "a" top: "b" loss_weight: 2
          include { phase: TEST } exclude { stage: "s" }
          param { lr_mult: 1 decay_mult: 0.5 name: "w" share_mode: PERMISSIVE }
          param { lr_mult: 0 name: "b" }
          param { name: "c" }
          blobs { num: 1 data: 3 }
          inner_product_param { num_output: 4 }
        }
        """
    )


def test_every_parameter_message_is_carried_over():
    fields = messages.V1LayerParameter.DESCRIPTOR.fields
    names = [field.name for field in fields if field.name.endswith("_param")]
    assert len(names) == 30
    for name in names:
        net = _net(f"layers {{ {name} {{ }} }}")
        upgrade_v1(net, "f")
        assert net.layer[0].HasField(name)


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [
        ("DATA", "data_param"),
        ("IMAGE_DATA", "image_data_param"),
        ("WINDOW_DATA", "window_data_param"),
    ],
)
def test_transformations(kind, parameter):
    settings = 'scale: 2 mean_file: "m" crop_size: 3 mirror: true'
    net = _net(f"layers {{ type: {kind} {parameter} {{ {settings} batch_size: 4 }} }}")
    assert needs_transforms(net)
    move_transforms(net)
    assert not needs_transforms(net)
    assert net == _net(
        f"layers {{ type: {kind} {parameter} {{ batch_size: 4 }} "
        f"transform_param {{ {settings} }} }}"
    )


def test_old_transformations_win():
    """Caffe overwrites what stands in transform_param already."""
    net = _net(
        "layers { type: DATA data_param { scale: 2 } transform_param { scale: 3 } }"
    )
    move_transforms(net)
    assert net.layers[0].transform_param.scale == 2


def test_transformations_of_other_layers_stay():
    assert not needs_transforms(_net("layers { type: RELU data_param { scale: 2 } }"))


def test_both_formats():
    net = _net('layer { name: "a" } layers { name: "b" }')
    with pytest.raises(
        ParseError, match=r"f: .*'layer \{' \('a'\).*'layers \{' \('b'\)"
    ):
        upgrade_v1(net, "f")


def test_data_layers_without_transformations_get_empty_messages():
    """Caffe makes both for every data layer once any of them needs the upgrade."""
    net = _net("layers { type: DATA data_param { scale: 2 } } layers { type: DATA }")
    move_transforms(net)
    assert net == _net(
        "layers { type: DATA data_param { } transform_param { scale: 2 } } "
        "layers { type: DATA data_param { } transform_param { } }"
    )
