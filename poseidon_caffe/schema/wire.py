"""Arrays to and from BlobProtos at memory speed.

``blob.data.extend(array)`` takes some 250 ns a number; putting the packed field
together by hand (tag, length, the array's own bytes) is thirty times as fast.
Whole files are made as a list of pieces, so that writing a net needs no second
copy of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.types import Array, Shape

__all__ = [
    "BlobArrays",
    "Piece",
    "array_to_blob",
    "blob_shape",
    "blob_to_array",
    "blobs_pieces",
    "diff_to_array",
    "fill_blob",
    "net_pieces",
    "piece_buffer",
    "piece_bytes",
    "state_pieces",
]

Piece = bytes | Array
"""Part of a file: bytes as they are, or an array that stands for its values."""

_LENGTH_DELIMITED = 2
_LAYER, _LAYER_BLOBS, _STATE_HISTORY = 100, 7, 3


@dataclass(frozen=True)
class BlobArrays:
    """What is stored of one blob.

    Attributes:
        data: float32 or float64 array of any layout; others become float32.
        diff: gradient of the same shape, or None to store none.
    """

    data: Array
    diff: Array | None = None


def blob_shape(blob: Any) -> Shape:
    """Shape of a BlobProto, by ``shape`` or by the old four numbers.

    A message with neither is taken as a vector of its values.
    """
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return (blob.num, blob.channels, blob.height, blob.width)
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    count = len(blob.data) or len(blob.double_data)
    return () if count == 1 else (count,)


def blob_to_array(blob: Any) -> Array:
    """Values of a BlobProto as a new array: float64 if it holds doubles, else float32.

    Raises:
        ParseError: the number of values does not fit the shape.
    """
    values = (
        np.array(blob.double_data, dtype=np.float64)
        if blob.double_data
        else np.array(blob.data, dtype=np.float32)
    )
    return _shaped(values, blob)


def diff_to_array(blob: Any) -> Array | None:
    """Gradient stored in a BlobProto, or None when it has none.

    Raises:
        ParseError: the number of values does not fit the shape.
    """
    if blob.double_diff:
        return _shaped(np.array(blob.double_diff, dtype=np.float64), blob)
    if blob.diff:
        return _shaped(np.array(blob.diff, dtype=np.float32), blob)
    return None


def array_to_blob(array: Array, *, diff: Array | None = None) -> Any:
    """New BlobProto with the shape and values of an array (10 M in 0.1 s).

    Args:
        array: float64 is stored as doubles, anything else as float32.
        diff: gradient to store with it.
    """
    blob = messages.BlobProto()
    fill_blob(blob, array, diff=diff)
    return blob


def fill_blob(blob: Any, array: Array, *, diff: Array | None = None) -> None:
    """Sets a BlobProto, such as ``layer.blobs.add()``, to an array, in place."""
    blob.Clear()
    pieces = _blob_body(BlobArrays(array, diff))
    blob.MergeFromString(b"".join(piece_buffer(piece) for piece in pieces))


def net_pieces(net: Any, blobs: Sequence[Sequence[BlobArrays]]) -> list[Piece]:
    """A NetParameter with its weights, as pieces of a file.

    Args:
        net: the net; blobs inside it are left out.
        blobs: for each ``net.layer`` the arrays to store.
    """
    header = type(net)()
    for field, _ in net.ListFields():
        if field.number != _LAYER:
            _copy_field(net, header, field.name)
    around = header.SerializeToString()
    cut = _offset_after(around, _LAYER)
    pieces: list[Piece] = [around[:cut]]
    for layer, arrays in zip(net.layer, blobs, strict=True):
        bare = type(layer)()
        for field, _ in layer.ListFields():
            if field.number != _LAYER_BLOBS:
                _copy_field(layer, bare, field.name)
        body = _insert(bare.SerializeToString(), _LAYER_BLOBS, arrays)
        pieces += [_head(_LAYER, body), *body]
    return [*pieces, around[cut:]]


def state_pieces(state: Any, history: Sequence[Array]) -> list[Piece]:
    """A SolverState with its history, as pieces of a file.

    Args:
        state: iteration, name of the weights, step; its own history is replaced.
        history: the solver's arrays.
    """
    bare = messages.SolverState()
    for field in ("iter", "learned_net", "current_step"):
        if state.HasField(field):
            setattr(bare, field, getattr(state, field))
    arrays = [BlobArrays(array) for array in history]
    return _insert(bare.SerializeToString(), _STATE_HISTORY, arrays)


def blobs_pieces(arrays: Sequence[BlobArrays], number: int = 1) -> list[Piece]:
    """Arrays as repeated field ``number``; with 1 they form a BlobProtoVector."""
    pieces: list[Piece] = []
    for array in arrays:
        body = _blob_body(array)
        pieces += [_head(number, body), *body]
    return pieces


def piece_buffer(piece: Piece) -> bytes | memoryview:
    """The bytes of a piece; a plain float array in C order is not copied."""
    if isinstance(piece, bytes):
        return piece
    flat = np.ascontiguousarray(piece, dtype=_stored_type(piece)).reshape(-1)
    return flat.view(np.uint8).data


def piece_bytes(pieces: Iterable[Piece]) -> int:
    """Size of the pieces in the file, in bytes."""
    return sum(
        len(p) if isinstance(p, bytes) else p.size * _stored_type(p).itemsize
        for p in pieces
    )


def _blob_body(blob: BlobArrays) -> list[Piece]:
    """A BlobProto's fields in the order of their numbers."""
    shape = messages.BlobProto(shape=messages.BlobShape(dim=blob.data.shape))
    double = _stored_type(blob.data).itemsize == 8
    data_number, diff_number = (8, 9) if double else (5, 6)
    values: list[Piece] = []
    for number, array in ((data_number, blob.data), (diff_number, blob.diff)):
        if array is not None and array.size:
            # A diff is stored with the type of its data.
            kept = array.astype(np.float64 if double else np.float32, copy=False)
            values += [_head(number, [kept]), kept]
    tail: list[Piece] = [shape.SerializeToString()]
    return tail + values if double else values + tail


def _stored_type(array: Array) -> np.dtype[Any]:
    return np.dtype("<f8" if array.dtype == np.float64 else "<f4")


def _insert(body: bytes, number: int, arrays: Sequence[BlobArrays]) -> list[Piece]:
    """A serialized message with blobs put where their field number belongs."""
    cut = _offset_after(body, number)
    return [body[:cut], *blobs_pieces(arrays, number), body[cut:]]


def _offset_after(body: bytes, number: int) -> int:
    """Offset of the first field of a serialized message that is above a number."""
    offset = 0
    while offset < len(body):
        tag, after = _read_varint(body, offset)
        if tag >> 3 > number:
            break
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, after = _read_varint(body, after)
            offset = after + length
        elif wire_type == 0:
            offset = _read_varint(body, after)[1]
        else:
            offset = after + (8 if wire_type == 1 else 4)
    return offset


def _head(number: int, body: Sequence[Piece]) -> bytes:
    """Tag and length that go before a length-delimited field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(piece_bytes(body))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while data[offset] & 128:
        value |= (data[offset] & 127) << shift
        shift, offset = shift + 7, offset + 1
    return value | data[offset] << shift, offset + 1


def _copy_field(source: Any, target: Any, name: str) -> None:
    """Copies one field that is set, whatever its kind."""
    value = getattr(source, name)
    field = source.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(target, name).MergeFrom(value)
    elif field.message_type is not None:
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def _shaped(values: Array, blob: Any) -> Array:
    shape = blob_shape(blob)
    if values.size != math.prod(shape):
        raise ParseError(
            f"a stored blob of shape {shape} needs {math.prod(shape)} values but holds "
            f"{values.size}: the file is damaged"
        )
    return values.reshape(shape)
