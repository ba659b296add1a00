from __future__ import annotations

import random

import pytest

from poseidon_caffe.data.level_log import frame_record, log_records, masked_crc
from poseidon_caffe.errors import DataError


def test_checksums():
    # The check value of CRC-32C, turned and shifted as LevelDB does.
    value = 0xE3069283
    turned = (value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF
    assert masked_crc(b"123456789") == turned.to_bytes(4, "little")


@pytest.mark.parametrize("size", [0, 1, 32761, 32762, 100_000])
def test_a_record_of_any_size_comes_back(size):
    record = random.Random(size).randbytes(size)
    assert list(log_records(frame_record(record))) == [record]


def test_the_end_may_be_missing_but_nothing_else():
    whole = frame_record(b"a" * 40_000)
    assert list(log_records(whole[:-1])) == []
    assert list(log_records(whole[:3])) == []
    small = frame_record(b"first") + frame_record(b"second")
    assert list(log_records(small[:-2])) == [b"first"]
    wrong = bytearray(small)
    wrong[9] ^= 1
    with pytest.raises(DataError, match="wrong checksum at byte 0"):
        list(log_records(bytes(wrong)))
    with pytest.raises(DataError, match="without its beginning"):
        list(log_records(whole[32768:]))
    wrong[6] = 9
    with pytest.raises(DataError, match="damaged record"):
        list(log_records(bytes(wrong)))
