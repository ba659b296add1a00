"""Binary protobuf files: .caffemodel, .solverstate and any other message."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from poseidon_caffe.errors import ParseError, SnapshotError
from poseidon_caffe.schema.atomic import atomic_write
from poseidon_caffe.schema.files import StrPath, load, sniff
from poseidon_caffe.schema.wire import (
    BlobArrays,
    Piece,
    net_pieces,
    piece_buffer,
    piece_bytes,
    state_pieces,
)
from poseidon_caffe.types import Array

__all__ = [
    "LIMIT_BYTES",
    "parse_binary",
    "read_binary",
    "write_binary",
    "write_net",
    "write_state",
]

LIMIT_BYTES = 2**31 - 1
"""Largest message that protobuf reads."""


def read_binary(path: StrPath, message_class: Any) -> Any:
    """Message in a binary protobuf file.

    Args:
        path: the file.
        message_class: e.g. ``messages.NetParameter``.

    Raises:
        ParseError: missing, too large for protobuf, empty, damaged or cut off, or
            in truth something else (text, HDF5, a web page, a git-lfs pointer).
    """
    what = f"binary {message_class.DESCRIPTOR.name}"
    data = load(path, what, limit_bytes=LIMIT_BYTES)
    return parse_binary(data, message_class, os.fspath(path))


def parse_binary(data: bytes, message_class: Any, path: str = "<bytes>") -> Any:
    """Message in bytes; ``path`` is the name that errors give them.

    Raises:
        ParseError: as for :func:`read_binary`.
    """
    what = message_class.DESCRIPTOR.name
    if not data:
        raise ParseError(f"{path}: the file is empty; a {what} is expected", path=path)
    try:
        message = message_class.FromString(data)
    except DecodeError as error:
        raise ParseError(_damaged(path, what, data), path=path) from error
    if not message.ListFields():
        raise ParseError(_damaged(path, what, data), path=path)
    return message


def write_binary(path: StrPath, message: Any) -> None:
    """Writes a message whole or not at all.

    Raises:
        SnapshotError: the disk refused, or the message exceeds 2 GiB.
    """
    try:
        data = message.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise SnapshotError(f"{os.fspath(path)}: not written: {error}") from error
    _write(path, [data])


def write_net(path: StrPath, net: Any, blobs: Sequence[Sequence[BlobArrays]]) -> None:
    """Writes a .caffemodel without a second copy of its weights in memory.

    Args:
        path: the file, written whole or not at all.
        net: the NetParameter; blobs inside it are left out.
        blobs: for each ``net.layer`` the arrays to store.

    Raises:
        SnapshotError: the disk refused, or the net exceeds 2 GiB.
    """
    _write(path, net_pieces(net, blobs))


def write_state(path: StrPath, state: Any, history: Sequence[Array]) -> None:
    """Writes a .solverstate; arguments as :func:`wire.state_pieces`.

    Raises:
        SnapshotError: the disk refused, or the state exceeds 2 GiB.
    """
    _write(path, state_pieces(state, history))


def _write(path: StrPath, pieces: Sequence[Piece]) -> None:
    size = piece_bytes(pieces)
    if size > LIMIT_BYTES:
        raise SnapshotError(
            f"{os.fspath(path)}: not written: {size} bytes, and protobuf reads at most "
            f"{LIMIT_BYTES}; set 'snapshot_format: HDF5' in the solver"
        )
    atomic_write(path, (piece_buffer(piece) for piece in pieces), wanted_bytes=size)


_ADVICE = {
    "an HDF5 file": "give it a name that ends in .h5",
    "a git-lfs pointer, not the file it points to": "fetch the file: `git lfs pull`",
    "a web page, as a failed download leaves": "download the file again",
    "a gzip archive": "unpack it first",
    "a zip archive": "unpack it first",
    "a text file": "is this a prototxt, where the binary file is meant?",
}


def _damaged(path: str, what: str, data: bytes) -> str:
    kind = sniff(data)
    if kind is not None:
        advice = _ADVICE.get(kind, f"a binary {what} is expected")
        return f"{path}: this is {kind}, no binary {what}: {advice}"
    return (
        f"{path}: not a whole {what}: the {len(data)} bytes are damaged, cut off, or "
        "another kind of file; compare the size with the original and copy or "
        "download it again"
    )
