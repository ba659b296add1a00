"""Snappy decompression in plain Python, for the blocks of a LevelDB."""

from __future__ import annotations

from poseidon_caffe.errors import DataError

__all__ = ["decompress", "read_varint"]

_LITERAL, _NEAR, _FAR = range(3)  # kinds of elements; the fourth is farther still
_LONGEST_EXPANSION = 64  # a copy of 64 bytes takes two at least


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number that begins at ``place``, seven bits a byte, and where it ends.

    Raises:
        DataError: the bytes end before it does.
    """
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise DataError("a number is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def decompress(data: bytes) -> bytes:
    """The bytes that ``data`` stands for.

    Raises:
        DataError: it is no whole Snappy stream.
    """
    size, place = read_varint(data, 0)
    if size > _LONGEST_EXPANSION * len(data):
        raise DataError("a compressed block announces more than it can hold")
    out = bytearray()
    while place < len(data):
        tag = data[place]
        place += 1
        if tag & 3 == _LITERAL:
            place = _literal(data, place, tag >> 2, out)
        else:
            place = _copy(data, place, tag, out)
    if len(out) != size:
        raise DataError(f"a compressed block gives {len(out)} bytes instead of {size}")
    return bytes(out)


def _literal(data: bytes, place: int, length: int, out: bytearray) -> int:
    """Append plain bytes; the place after them."""
    if length >= 60:
        width = length - 59
        length = int.from_bytes(data[place : place + width], "little")
        place += width
    end = place + length + 1
    if end > len(data):
        raise DataError("a compressed block is cut off")
    out += data[place:end]
    return end


def _copy(data: bytes, place: int, tag: int, out: bytearray) -> int:
    """Append bytes that are there already; the place after the element."""
    if tag & 3 == _NEAR:
        length, width = (tag >> 2 & 7) + 4, 1
    else:
        length, width = (tag >> 2) + 1, 2 if tag & 3 == _FAR else 4
    back = int.from_bytes(data[place : place + width], "little")
    if tag & 3 == _NEAR:
        back |= tag >> 5 << 8
    start = len(out) - back
    if back == 0 or start < 0 or place + width > len(data):
        raise DataError("a compressed block refers to what is not in it")
    piece = out[start : start + length]
    if back < length:  # it repeats itself
        piece = (piece * (length // back + 1))[:length]
    out += piece
    return place + width
