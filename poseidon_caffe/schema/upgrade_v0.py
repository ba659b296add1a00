"""The oldest format, ``layers { layer { type: "conv" ... } }``, made into V1.

All settings of a V0 layer stand in one flat message; a table says where each
goes.  Separate padding layers are folded into the convolution or pooling that
follows them.
"""

from __future__ import annotations

import difflib
from typing import Any

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages

__all__ = ["upgrade_v0"]

_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

_PARAMETERS = {
    "conv": "convolution_param",
    "innerproduct": "inner_product_param",
    "pool": "pooling_param",
    "dropout": "dropout_param",
    "lrn": "lrn_param",
    "data": "data_param",
    "images": "image_data_param",
    "hdf5_data": "hdf5_data_param",
    "window_data": "window_data_param",
    "infogain_loss": "infogain_loss_param",
    "concat": "concat_param",
}

_LEARNED = ("conv", "innerproduct")
_SOURCES = ("data", "hdf5_data", "images", "window_data")
_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    # V0 field: (field of the type's own message, types that have it)
    "num_output": ("num_output", _LEARNED),
    "biasterm": ("bias_term", _LEARNED),
    "weight_filler": ("weight_filler", _LEARNED),
    "bias_filler": ("bias_filler", _LEARNED),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "stride": ("stride", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", (*_SOURCES, "infogain_loss")),
    "batchsize": ("batch_size", _SOURCES),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
_KEPT = ("blobs", "blobs_lr", "weight_decay")


def upgrade_v0(net: Any, path: str) -> list[str]:
    """Makes the V0 layers of a net into V1 layers, in place.

    Args:
        net: NetParameter whose ``layers`` are all V0.
        path: name of the file, for messages.

    Returns:
        Notes on settings that had no place in their layer's type and are dropped.

    Raises:
        ParseError: unknown type, a mixture with V1 layers, or a padding layer that
            cannot be folded.
    """
    bare = [layer.name for layer in net.layers if not layer.HasField("layer")]
    if bare:
        raise ParseError(
            f"{path}: the layer '{bare[0]}' is in the format 'layers {{ name: ... }}' "
            "and others in that of 'layers { layer { ... } }': use one of them",
            path=path,
        )
    _fold_padding(net, path)
    notes: list[str] = []
    upgraded = [_upgraded(layer, path, notes) for layer in net.layers]
    del net.layers[:]
    net.layers.extend(upgraded)
    return notes


def _upgraded(connection: Any, path: str, notes: list[str]) -> Any:
    """One V1 layer for a ``layers { layer { } bottom top }``."""
    old = connection.layer
    new = messages.V1LayerParameter(
        name=old.name, bottom=connection.bottom, top=connection.top
    )
    if not old.HasField("name"):
        new.ClearField("name")
    if old.HasField("type"):
        new.type = messages.V1LayerParameter.LayerType.Value(_type(old, path))
    for name in _KEPT:
        getattr(new, name).extend(getattr(old, name))
    for field, value in old.ListFields():
        if field.name in ("name", "type", *_KEPT):
            continue
        if not _place(new, old.type, field.name, value):
            notes.append(
                f"{path}: layer '{old.name}': the type '{old.type}' has no use "
                f"for '{field.name}': dropped"
            )
    return new


def _place(new: Any, old_type: str, name: str, value: Any) -> bool:
    """Puts one V0 setting into the V1 layer; False where it has no place."""
    if name in _TRANSFORM:
        setattr(new.transform_param, _TRANSFORM[name], value)
        return True
    if name == "hdf5_output_param" and old_type == "hdf5_output":
        new.hdf5_output_param.CopyFrom(value)
        return True
    target, types = _FIELDS.get(name, ("", ()))
    if old_type not in types:
        return False
    parameter = getattr(new, _PARAMETERS[old_type])
    field = parameter.DESCRIPTOR.fields_by_name[target]
    if field.is_repeated:
        getattr(parameter, target).append(value)
    elif field.message_type is not None:
        getattr(parameter, target).CopyFrom(value)
    else:
        setattr(parameter, target, value)
    return True


def _type(old: Any, path: str) -> str:
    try:
        return _TYPES[old.type]
    except KeyError:
        close = difflib.get_close_matches(old.type, _TYPES, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ParseError(
            f"{path}: layer '{old.name}': the oldest format has no layer type "
            f"'{old.type}'{hint} (known: {', '.join(_TYPES)})",
            path=path,
        ) from None


def _fold_padding(net: Any, path: str) -> None:
    """Gives the pad of padding layers to the layers that read them."""
    makers: dict[str, Any] = {}
    for layer in net.layers:
        for index, bottom in enumerate(layer.bottom):
            maker = makers.get(bottom)
            if maker is not None and maker.layer.type == "padding":
                _check_padding(maker, layer, path)
                layer.layer.pad = maker.layer.pad
                layer.bottom[index] = maker.bottom[0]
        for top in layer.top:
            makers[top] = layer
    for index in reversed(range(len(net.layers))):
        if net.layers[index].layer.type == "padding":
            del net.layers[index]


def _check_padding(padding: Any, reader: Any, path: str) -> None:
    wrong = ""
    if reader.layer.type not in ("conv", "pool"):
        wrong = f"feeds '{reader.layer.name}', which is no convolution or pooling"
    elif len(reader.bottom) != 1:
        wrong = f"feeds '{reader.layer.name}', which has {len(reader.bottom)} bottoms"
    elif len(padding.bottom) != 1 or len(padding.top) != 1:
        wrong = "must have one bottom and one top"
    if wrong:
        name = padding.layer.name
        raise ParseError(f"{path}: the padding layer '{name}' {wrong}", path=path)
