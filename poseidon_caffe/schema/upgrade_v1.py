"""The second format, ``layers { type: CONVOLUTION ... }``, made into today's."""

from __future__ import annotations

from typing import Any

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages

__all__ = ["TRANSFORM_FIELDS", "move_transforms", "needs_transforms", "upgrade_v1"]

TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
"""Settings that moved from the data layers' messages to ``transform_param``."""

_DATA_PARAMETERS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}

_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}

# What does not keep its name, or goes into `param`.
_SPECIAL = ("type", "layer", "param", "blob_share_mode", "blobs_lr", "weight_decay")
_SPEC_FIELDS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def needs_transforms(net: Any) -> bool:
    """Whether a V1 data layer has settings that belong to ``transform_param``."""
    return any(_old_transforms(layer) for layer in net.layers)


def move_transforms(net: Any) -> None:
    """Moves those settings, in place; they win over what stands there already.

    Caffe parity: data layers without any get their two messages all the same, empty.
    """
    for layer in net.layers:
        if not _data_parameter(layer):
            continue
        parameter = getattr(layer, _data_parameter(layer))
        old = _old_transforms(layer)
        parameter.SetInParent()
        layer.transform_param.SetInParent()
        for name in old:
            setattr(layer.transform_param, name, getattr(parameter, name))
            parameter.ClearField(name)


def upgrade_v1(net: Any, path: str) -> None:
    """Makes the V1 layers of a net into today's, in place.

    Args:
        net: NetParameter with ``layers``.
        path: name of the file, for messages.

    Raises:
        ParseError: the net has both ``layer`` and ``layers``.
    """
    if len(net.layer):
        raise ParseError(
            f"{path}: the net has both 'layer {{' ('{net.layer[0].name}') and the old "
            f"'layers {{' ('{net.layers[0].name}'): write all layers in one format",
            path=path,
        )
    for old in net.layers:
        _fill(net.layer.add(), old)
    del net.layers[:]


def _fill(new: Any, old: Any) -> None:
    """Sets a new layer to what a V1 layer says."""
    for field, value in old.ListFields():
        if field.name in _SPECIAL:
            continue
        if field.is_repeated:
            getattr(new, field.name).extend(value)
        elif field.message_type is not None:
            getattr(new, field.name).CopyFrom(value)
        else:
            setattr(new, field.name, value)
    if old.HasField("type"):
        new.type = _TYPES[messages.enum_name(old, "type")]
    for source, target in _SPEC_FIELDS.items():
        for index, value in enumerate(getattr(old, source)):
            while len(new.param) <= index:
                new.param.add()
            setattr(new.param[index], target, value)


def _data_parameter(layer: Any) -> str:
    return _DATA_PARAMETERS.get(messages.enum_name(layer, "type"), "")


def _old_transforms(layer: Any) -> list[str]:
    parameter = _data_parameter(layer)
    if not parameter or not layer.HasField(parameter):
        return []
    values = getattr(layer, parameter)
    return [name for name in TRANSFORM_FIELDS if values.HasField(name)]
