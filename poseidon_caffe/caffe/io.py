"""``caffe.io``: arrays to and from Caffe's messages.

Layouts are Caffe's: a Datum is (channels, height, width), a BlobProto any shape
(old ones always num, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.errors import DataError, ShapeError
from poseidon_caffe.schema import wire
from poseidon_caffe.schema.messages import message_class
from poseidon_caffe.types import Array

__all__ = [
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "datum_to_array",
]

_DATUM_AXES = 3


def blobproto_to_array(blob: Any, return_diff: bool = False) -> Array:  # noqa: FBT001, FBT002 - pycaffe's signature
    """Values of a BlobProto, or its gradient.

    Returns:
        float32 array of the blob's shape (float64 if it holds doubles).

    Raises:
        PoseidonError: the number of values does not fit the shape, or there is no
            gradient.
    """
    if not return_diff:
        return wire.blob_to_array(blob)
    diff = wire.diff_to_array(blob)
    if diff is None:
        raise DataError("the BlobProto holds no gradient (its diff is empty)")
    return diff


def array_to_blobproto(arr: Array, diff: Array | None = None) -> Any:
    """A BlobProto that holds ``arr`` as float32, and ``diff`` of the same shape.

    Raises:
        ShapeError: ``diff`` has another shape.
    """
    values = np.asarray(arr, np.float32)
    if diff is None:
        return wire.array_to_blob(values)
    gradient = np.asarray(diff, np.float32)
    if gradient.shape != values.shape:
        msg = f"diff must have the data's shape {values.shape}, not {gradient.shape}"
        raise ShapeError(msg)
    return wire.array_to_blob(values, diff=gradient)


def arraylist_to_blobprotovector_str(arraylist: Sequence[Array]) -> bytes:
    """Several arrays as one serialised BlobProtoVector."""
    vector = message_class("BlobProtoVector")()
    vector.blobs.extend(array_to_blobproto(array) for array in arraylist)
    data: bytes = vector.SerializeToString()
    return data


def blobprotovector_str_to_arraylist(data: bytes) -> list[Array]:
    """The arrays of a serialised BlobProtoVector."""
    vector = message_class("BlobProtoVector")()
    vector.ParseFromString(data)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: Array, label: int | None = None) -> Any:
    """A Datum that holds ``arr``: uint8 as bytes, anything else as floats.

    Args:
        arr: shape (channels, height, width).
        label: class of the record.

    Raises:
        ShapeError: ``arr`` has not three axes.
    """
    values = np.asarray(arr)
    if values.ndim != _DATUM_AXES:
        msg = f"a Datum is (channels, height, width); received shape {values.shape}"
        raise ShapeError(msg)
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
        DataError: the Datum holds an encoded image, or too few values.
    """
    if datum.encoded:
        msg = (
            "the Datum holds an encoded image (JPEG, PNG); decode datum.data first, "
            "with Pillow for example"
        )
        raise DataError(msg)
    shape = (datum.channels, datum.height, datum.width)
    values = (
        np.frombuffer(datum.data, np.uint8).copy()
        if datum.data
        else np.asarray(datum.float_data, np.float32)
    )
    if values.size != np.prod(shape, dtype=np.int64):
        msg = f"a Datum of shape {shape} holds {values.size} values"
        raise DataError(msg)
    return values.reshape(shape)
