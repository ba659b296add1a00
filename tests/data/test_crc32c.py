from __future__ import annotations

import random

import pytest

from poseidon_caffe.data.crc32c import crc32c


def test_published_values():
    # RFC 3720, appendix B.4, and the check value of the catalogue of CRCs.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def bitwise(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 127, 1023, 1024, 1025, 1151, 1152, 9999])
def test_long_data_is_cut_and_put_together(size):
    data = random.Random(size).randbytes(size)
    assert crc32c(data) == bitwise(data)
