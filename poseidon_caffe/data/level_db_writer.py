"""A new LevelDB written in plain Python, for Pythons that have no binding.

Only what a database needs that is written once and then read: sorted tables and a
manifest, no log and no compression.  LevelDB opens it like any other.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from poseidon_caffe.data.level_log import COMPARATOR, frame_record, masked_crc
from poseidon_caffe.data.level_table import TABLE_MAGIC

__all__ = ["LevelBuilder"]

_BLOCK_BYTES = 65536  # Caffe's setting
_PENDING_BYTES = 32 << 20
_MANIFEST = 1
_FIRST_TABLE = 2
_LAST_LEVEL = 6  # never compacted; its tables must not overlap
_PUT = 1


class _Made(NamedTuple):
    """A table on the disk, with its first and last key."""

    number: int
    size_bytes: int
    first: bytes
    last: bytes


class LevelBuilder:
    """Collects records and makes the files of a database.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        self._written = 0
        self._tables: list[_Made] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Store one record; an equal key replaces the earlier one.

        Raises:
            OSError: the disk refused.
        """
        self._pending[key] = value
        self._pending_bytes += len(key) + len(value)
        if self._pending_bytes > _PENDING_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what waits, the manifest, and the file that names it.

        Raises:
            OSError: the disk refused.
        """
        self._flush()
        name = f"MANIFEST-{_MANIFEST:06d}"
        (self._folder / name).write_bytes(frame_record(self._edit()))
        (self._folder / "CURRENT").write_text(f"{name}\n", encoding="ascii")

    def _flush(self) -> None:
        """Make a table of what waits."""
        if not self._pending:
            return
        number = _FIRST_TABLE + len(self._tables)
        path = self._folder / f"{number:06d}.ldb"
        entries: list[tuple[bytes, bytes]] = []
        for key in sorted(self._pending):
            self._written += 1
            tail = (self._written << 8 | _PUT).to_bytes(8, "little")
            entries.append((key + tail, self._pending[key]))
        _write_table(path, entries)
        size_bytes = path.stat().st_size
        self._tables.append(_Made(number, size_bytes, entries[0][0], entries[-1][0]))
        self._pending.clear()
        self._pending_bytes = 0

    def _edit(self) -> bytes:
        """The one change of versions that the manifest holds."""
        tables = self._tables
        apart = all(a.last[:-8] < b.first[:-8] for a, b in pairwise(tables))
        level = _LAST_LEVEL if apart else 0
        edit = b"\x01" + _sized(COMPARATOR)
        edit += b"\x02" + _varint(0)  # no log
        edit += b"\x03" + _varint(_FIRST_TABLE + len(tables))
        edit += b"\x04" + _varint(self._written)
        for table in tables:
            edit += b"\x07" + _varint(level) + _varint(table.number)
            edit += _varint(table.size_bytes) + _sized(table.first) + _sized(table.last)
        return edit


def _write_table(path: Path, entries: list[tuple[bytes, bytes]]) -> None:
    """A table of entries in order: blocks, the index of them, the footer."""
    index: list[tuple[bytes, bytes]] = []
    block: list[tuple[bytes, bytes]] = []
    waiting_bytes = place = 0
    with path.open("wb") as file:
        for i, entry in enumerate(entries):
            block.append(entry)
            waiting_bytes += len(entry[0]) + len(entry[1])
            if waiting_bytes >= _BLOCK_BYTES or i == len(entries) - 1:
                handle = _handle(place, raw := _block(block))
                index.append((entry[0], handle))
                place += file.write(_sealed(raw))
                block.clear()
                waiting_bytes = 0
        footer = b""
        for raw in (_block([]), _block(index)):
            footer += _handle(place, raw)
            place += file.write(_sealed(raw))
        file.write(footer.ljust(40, b"\0") + TABLE_MAGIC.to_bytes(8, "little"))
        file.flush()
        os.fsync(file.fileno())


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Entries with whole keys, so that a search may begin at each of them."""
    out, restarts = bytearray(), [0]
    for i, (key, value) in enumerate(entries):
        if i:
            restarts.append(len(out))
        out += b"\0" + _varint(len(key)) + _varint(len(value)) + key + value
    for number in (*restarts, len(restarts)):
        out += number.to_bytes(4, "little")
    return bytes(out)


def _sealed(block: bytes) -> bytes:
    """A block with its trailer: not compressed, and the checksum."""
    kind = b"\0"
    return block + kind + masked_crc(block + kind)


def _handle(place: int, block: bytes) -> bytes:
    return _varint(place) + _varint(len(block))


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
