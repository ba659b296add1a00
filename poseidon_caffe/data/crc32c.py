"""CRC-32C, the checksum of LevelDB's blocks and logs, by NumPy."""

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["crc32c"]

_Words: TypeAlias = npt.NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_LANE_BYTES = 128
_LEAST_LANES = 8
_ONES = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The checksum of ``data``, 32 bits.

    A checksum is linear: that of a whole follows from those of its parts.  So long
    data is cut into lanes, which NumPy walks through side by side.
    """
    lanes = len(data) // _LANE_BYTES
    state, start = _ONES, 0
    if lanes >= _LEAST_LANES:
        start = lanes * _LANE_BYTES
        shift = _lane_shift()
        for part in _lane_states(data[:start]).tolist():
            state = (
                shift[0][state & 0xFF]
                ^ shift[1][state >> 8 & 0xFF]
                ^ shift[2][state >> 16 & 0xFF]
                ^ shift[3][state >> 24]
                ^ part
            )
    table = _byte_list()
    for byte in data[start:]:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ _ONES


def _lane_states(data: bytes) -> _Words:
    """What each lane leaves of a state that begins as 0."""
    columns = np.frombuffer(data, np.uint8).reshape(-1, _LANE_BYTES).T
    table = _byte_table()
    state = np.zeros(columns.shape[1], np.uint32)
    for column in np.ascontiguousarray(columns):
        state = table[(state ^ column) & 0xFF] ^ state >> 8
    return state


@functools.cache
def _byte_table() -> _Words:
    """What a byte leaves of a state that begins as 0."""
    state: _Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = state >> np.uint32(1) ^ (state & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return state


@functools.cache
def _byte_list() -> list[int]:
    return [int(value) for value in _byte_table()]


@functools.cache
def _lane_shift() -> list[list[int]]:
    """What a lane of zeros makes of each of the four bytes of a state."""
    table = _byte_table()
    places = np.array([[0], [8], [16], [24]], np.uint32)
    state: _Words = np.arange(256, dtype=np.uint32) << places
    for _ in range(_LANE_BYTES):
        state = table[state & 0xFF] ^ state >> 8
    return [[int(value) for value in row] for row in state]
