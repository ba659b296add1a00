"""``caffe.io``: images, and arrays to and from Caffe's messages.

Layouts are Caffe's: a Datum is (channels, height, width), a BlobProto any shape
(old ones always num, channels, height, width), an image (height, width, channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from poseidon_caffe.caffe.images import load_image, oversample, resize_image
from poseidon_caffe.caffe.proto import caffe_pb2
from poseidon_caffe.caffe.transformer import Transformer
from poseidon_caffe.caffe.value_errors import ArrayError, BlobProtoError, ValuesError
from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import wire
from poseidon_caffe.schema.messages import message_class
from poseidon_caffe.types import Array

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovecor_str",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize_image",
]

_DATUM_AXES = 3
_SHAPE_FIELDS = ("shape", "num", "channels", "height", "width")


def blobproto_to_array(blob: Any, return_diff: bool = False) -> Array:  # noqa: FBT001, FBT002 - pycaffe's signature
    """Values of a BlobProto, or its gradient.

    Returns:
        float32 array of the blob's shape (float64 if it holds doubles).

    Raises:
        BlobProtoError: the number of values does not fit the shape, or several values
            have none; a ValueError too.
        ValuesError: there is no gradient; a ValueError too.
    """
    count = max(len(blob.data), len(blob.double_data))
    if count > 1 and not any(blob.HasField(name) for name in _SHAPE_FIELDS):
        msg = f"the BlobProto holds {count} values, but no shape"
        raise BlobProtoError(msg)
    try:
        values = wire.diff_to_array(blob) if return_diff else wire.blob_to_array(blob)
    except ParseError as error:
        raise BlobProtoError(str(error)) from error
    if values is None:
        raise ValuesError("the BlobProto holds no gradient (its diff is empty)")
    return values


def array_to_blobproto(arr: Array, diff: Array | None = None) -> Any:
    """A BlobProto that holds ``arr`` as float32, and ``diff`` of the same shape.

    Raises:
        ArrayError: ``diff`` has another shape; a ValueError too.
    """
    values = np.asarray(arr, np.float32)
    if diff is None:
        return wire.array_to_blob(values)
    gradient = np.asarray(diff, np.float32)
    if gradient.shape != values.shape:
        msg = f"diff must have the data's shape {values.shape}, not {gradient.shape}"
        raise ArrayError(msg)
    return wire.array_to_blob(values, diff=gradient)


def arraylist_to_blobprotovector_str(arraylist: Sequence[Array]) -> bytes:
    """Several arrays as one serialised BlobProtoVector."""
    vector = message_class("BlobProtoVector")()
    vector.blobs.extend(array_to_blobproto(array) for array in arraylist)
    data: bytes = vector.SerializeToString()
    return data


arraylist_to_blobprotovecor_str = arraylist_to_blobprotovector_str
"""Caffe's own spelling of the name."""


def blobprotovector_str_to_arraylist(data: bytes) -> list[Array]:
    """The arrays of a serialised BlobProtoVector.

    Raises:
        BlobProtoError: the bytes are no such message, or a blob in it is damaged.
    """
    vector = message_class("BlobProtoVector")()
    try:
        vector.ParseFromString(data)
    except DecodeError as error:
        msg = f"{len(data)} bytes that are no BlobProtoVector: {error}"
        raise BlobProtoError(msg) from error
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: Array, label: int | None = None) -> Any:
    """A Datum that holds ``arr``: uint8 as bytes, anything else as floats.

    Args:
        arr: shape (channels, height, width).
        label: class of the record.

    Raises:
        ArrayError: ``arr`` has not three axes; a ValueError too.
    """
    values = np.asarray(arr)
    if values.ndim != _DATUM_AXES:
        msg = f"a Datum is (channels, height, width); received shape {values.shape}"
        raise ArrayError(msg)
    datum = message_class("Datum")()
    datum.channels, datum.height, datum.width = values.shape
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data.extend(values.ravel().tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Any) -> Array:
    """The array of a raw Datum: uint8 or float32, shape (channels, height, width).

    Raises:
        ValuesError: the Datum holds an encoded image, or values that do not fit its
            shape; a ValueError too.
    """
    if datum.encoded:
        msg = (
            "the Datum holds an encoded image (JPEG, PNG); decode datum.data first, "
            "with Pillow for example"
        )
        raise ValuesError(msg)
    shape = (datum.channels, datum.height, datum.width)
    values = (
        np.frombuffer(datum.data, np.uint8).copy()
        if datum.data
        else np.asarray(datum.float_data, np.float32)
    )
    if values.size != np.prod(shape, dtype=np.int64):
        msg = f"a Datum of shape {shape} holds {values.size} values"
        raise ValuesError(msg)
    return values.reshape(shape)
