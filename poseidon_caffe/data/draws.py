"""Random numbers that depend on (seed, record) and on nothing else.

Crops and mirrors are drawn from a hash of the record's global number, not from a
generator that is advanced: threads may work in any order, N workers see the
crops that one worker would see, and a resumed run needs no generator state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["below", "bits", "make_key"]

_MASK = 0xFFFFFFFFFFFFFFFF
# SplitMix64 (Steele, Lea, Flood 2014): a Weyl step and a finaliser.
_WEYL = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _mix(value: int) -> int:
    value = (value + _WEYL) & _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def make_key(*parts: int) -> int:
    """One 64-bit key from several integers, such as a seed and a name's hash."""
    key = 0
    for part in parts:
        key = _mix(key ^ (part & _MASK))
    return key


def bits(
    key: int, records: Sequence[int] | npt.NDArray[np.int64], stream: int
) -> npt.NDArray[np.uint64]:
    """64 random bits per record.

    Args:
        key: from `make_key`.
        records: global record numbers, not negative.
        stream: which draw of the record this is (mirror, row, column, ...).

    Returns:
        uint64 array of one value per record.
    """
    value = np.array(records, np.uint64) * np.uint64(_WEYL)
    value += np.uint64(make_key(key, stream))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX_1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX_2)
    return value ^ (value >> np.uint64(31))


def below(
    limit: int | npt.NDArray[np.int64], key: int, records: Sequence[int], stream: int
) -> npt.NDArray[np.int64]:
    """A random integer from 0 to ``limit - 1`` per record.

    Args:
        limit: below 2**32; one for all, or one per record.
        key: see `bits`.
        records: see `bits`.
        stream: see `bits`.
    """
    high = bits(key, records, stream) >> np.uint64(32)
    product = high * np.asarray(limit).astype(np.uint64)
    return (product >> np.uint64(32)).astype(np.int64)
