"""Datum, Caffe's database record, to arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.data.image import ColorMode, decode_image, encode_image
from poseidon_caffe.errors import DataError
from poseidon_caffe.schema import messages
from poseidon_caffe.types import Array

__all__ = ["array_to_datum", "decode", "encoded_datum", "parse_datum"]


def parse_datum(raw: bytes) -> Any:
    """The Datum in a database's value.

    Raises:
        DataError: the bytes are no Datum.
    """
    from google.protobuf.message import DecodeError

    datum = messages.Datum()
    try:
        datum.ParseFromString(raw)
    except DecodeError as error:
        raise DataError(
            f"{len(raw)} bytes that are no Caffe Datum; the record is damaged or was "
            "written by another program"
        ) from error
    return datum


def decode(datum: Any, mode: ColorMode = ColorMode.NATIVE) -> Array:
    """The values of a Datum.

    Args:
        datum: raw bytes, floats or an encoded image.
        mode: channels of an encoded image; the others stay as they are.

    Returns:
        (C, H, W), uint8 for bytes and images (BGR), float32 for floats; may be a
        read-only or strided view.

    Raises:
        DataError: the data does not have the announced size, or is no image.
    """
    data = datum.data
    if datum.encoded:
        return decode_image(data, mode)
    shape = (datum.channels, datum.height, datum.width)
    count = shape[0] * shape[1] * shape[2]
    if data:
        values: Array = np.frombuffer(data, np.uint8)
    else:
        values = np.array(datum.float_data, np.float32)
    if min(shape) < 1 or values.size != count:
        raise DataError(_wrong_size(shape, values))
    return values.reshape(shape)


def array_to_datum(array: Array, label: int) -> Any:
    """A raw Datum of an array (C, H, W): uint8 as bytes, others as floats."""
    channels, height, width = array.shape
    datum = messages.Datum(
        channels=channels, height=height, width=width, label=label, encoded=False
    )
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.reshape(-1).tolist())
    return datum


def encoded_datum(image: Array | bytes, label: int, encoding: str = "png") -> Any:
    """A Datum that holds a compressed image.

    Args:
        image: (C, H, W) uint8 in BGR order, or the bytes of an image file.
        label: its class.
        encoding: how to compress an array; see `encode_image`.
    """
    data = image if isinstance(image, bytes) else encode_image(image, encoding)
    return messages.Datum(data=data, label=label, encoded=True)


def _wrong_size(shape: tuple[int, int, int], values: Array) -> str:
    channels, height, width = shape
    if values.size == 0:
        return "a Datum without data"
    return (
        f"a Datum of {channels} channels, height {height} and width {width} that "
        f"holds {values.size} values, not {channels * height * width}"
    )
