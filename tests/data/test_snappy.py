from __future__ import annotations

import random

import pytest

from poseidon_caffe.data.snappy import decompress, read_varint
from poseidon_caffe.errors import DataError


def literal(data: bytes) -> bytes:
    length = len(data) - 1
    if length < 60:
        return bytes([length << 2]) + data
    width = (length.bit_length() + 7) // 8
    return bytes([59 + width << 2]) + length.to_bytes(width, "little") + data


def test_literals_of_all_lengths():
    for length in (1, 60, 61, 256, 257, 70000):
        data = random.Random(length).randbytes(length)
        head = bytearray()
        rest = length
        while rest >= 128:
            head.append(rest & 127 | 128)
            rest >>= 7
        head.append(rest)
        assert decompress(bytes(head) + literal(data)) == data
    assert decompress(b"\0") == b""


def test_copies_of_all_kinds():
    # "abcd", 4 back 4; then 11 back 1 byte (a run); 5 back 20, in all widths.
    near = bytes([0b000_000_01, 4])
    run = bytes([0b000_111_01, 1])
    far = bytes([(5 - 1) << 2 | 2]) + (19).to_bytes(2, "little")
    farthest = bytes([(5 - 1) << 2 | 3]) + (24).to_bytes(4, "little")
    got = decompress(bytes([29]) + literal(b"abcd") + near + run + far + farthest)
    assert got == b"abcdabcd" + b"d" * 11 + b"abcda" + b"abcda"


def test_offsets_beyond_a_byte():
    text = bytes(range(256)) * 2
    stream = b"\x88\x04" + literal(text + b"12") + bytes([0b010_010_01, 2])
    assert decompress(stream) == text + b"12" + (text + b"12")[-514:][:6]


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x80",
        b"\x05" + literal(b"abcd"),
        b"\x03" + literal(b"abcd"),
        b"\x04\x0cabc",
        b"\x08" + literal(b"abcd") + bytes([1, 5]),
        b"\x08" + literal(b"abcd") + bytes([1, 0]),
        b"\x08" + literal(b"abcd") + bytes([1]),
        b"\xff\xff\xff\xff\x0f" + literal(b"abcd"),
    ],
)
def test_damage(stream):
    with pytest.raises(DataError):
        decompress(stream)


def test_numbers():
    assert read_varint(b"x\xac\x02y", 1) == (300, 3)
    with pytest.raises(DataError):
        read_varint(b"\xff" * 20, 0)
