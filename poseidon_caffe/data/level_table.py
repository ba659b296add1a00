"""LevelDB's sorted tables, read in plain Python."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from poseidon_caffe.data.level_log import KEY_TAIL_BYTES
from poseidon_caffe.data.snappy import decompress, read_varint
from poseidon_caffe.errors import DataError

__all__ = ["TABLE_MAGIC", "Entry", "Table"]

_FOOTER_BYTES = 48
TABLE_MAGIC = 0xDB4775248B80FB57
"""The last eight bytes of a table."""
_PLAIN, _SNAPPY = 0, 1
_TRAILER_BYTES = 5  # kind of compression, checksum


class Entry(NamedTuple):
    """One write, in the order in which keys are merged: the latest first.

    Attributes:
        key: the user's.
        age: the number of the write, negative.
        value: None where the key was deleted.
    """

    key: bytes
    age: int
    value: bytes | None


class Table:
    """One file of sorted entries.  Checksums are not compared, as LevelDB does not.

    Args:
        path: the file.

    Raises:
        DataError: it is no whole table.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < _FOOTER_BYTES:
                raise DataError(f"{path.name} has {size} bytes only: it is cut off")
            self._raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        footer = self._raw[-_FOOTER_BYTES:]
        if int.from_bytes(footer[-8:], "little") != TABLE_MAGIC:
            raise DataError(f"{path.name} is no table, or is cut off")
        place = 0
        for _ in range(3):  # past the meta index, to the index's own offset
            offset, place = read_varint(footer, place)
        length, _ = read_varint(footer, place)
        index = list(_entries(self._block(offset, length)))
        self._last_keys = [key[:-KEY_TAIL_BYTES] for key, _ in index]
        self._blocks = [_handle(value) for _, value in index]

    def entries(self, start: bytes = b"") -> Iterator[Entry]:
        """The entries whose key is ``start`` or later, in order.

        Raises:
            DataError: damage.
        """
        first = bisect.bisect_left(self._last_keys, start)
        for offset, length in self._blocks[first:]:
            for inner, value in _entries(self._block(offset, length)):
                key = inner[:-KEY_TAIL_BYTES]
                if len(inner) < KEY_TAIL_BYTES:
                    raise DataError(f"{self._name} has a key that is cut off")
                if key >= start:
                    tail = int.from_bytes(inner[-KEY_TAIL_BYTES:], "little")
                    yield Entry(key, -(tail >> 8), value if tail & 0xFF else None)

    def close(self) -> None:
        """Release the file."""
        self._raw.close()

    def _block(self, offset: int, length: int) -> bytes:
        """A block's bytes, decompressed."""
        end = offset + length
        if end + _TRAILER_BYTES > len(self._raw):
            raise DataError(f"{self._name} refers to bytes beyond its end")
        kind = self._raw[end]
        if kind == _PLAIN:
            return self._raw[offset:end]
        if kind == _SNAPPY:
            return decompress(self._raw[offset:end])
        raise DataError(f"{self._name}: a block is compressed in a way {kind}")


def _handle(value: bytes) -> tuple[int, int]:
    offset, place = read_varint(value, 0)
    length, _ = read_varint(value, place)
    return offset, length


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; each key is told by how it differs from the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise DataError("a block of a table is damaged")
    key, place = b"", 0
    while place < end:
        shared, place = read_varint(block, place)
        fresh, place = read_varint(block, place)
        length, place = read_varint(block, place)
        stop = place + fresh + length
        if shared > len(key) or stop > end:
            raise DataError("a block of a table is damaged")
        key = key[:shared] + block[place : place + fresh]
        yield key, block[place + fresh : stop]
        place = stop
