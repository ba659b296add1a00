"""LevelDB's logs: the manifest, which lists tables, and writes not in tables yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from poseidon_caffe.data.crc32c import crc32c
from poseidon_caffe.data.snappy import read_varint
from poseidon_caffe.errors import DataError

__all__ = [
    "COMPARATOR",
    "KEY_TAIL_BYTES",
    "Manifest",
    "Writes",
    "frame_record",
    "log_records",
    "masked_crc",
    "read_manifest",
    "read_writes",
]

_BLOCK_BYTES = 32768
_HEAD_BYTES = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
COMPARATOR = b"leveldb.BytewiseComparator"
"""The order of keys that every database of Caffe's has."""
_BATCH_HEAD_BYTES = 12
_DELETE, _PUT = 0, 1
KEY_TAIL_BYTES = 8
"""At the end of a key in a table: the number of the write, and what it did."""

Writes = dict[bytes, tuple[int, bytes | None]]
"""By key: the number of the last write, and the value (None: deleted)."""


@dataclass
class Manifest:
    """What a database consists of.

    Attributes:
        tables: the last key of each table, by (level, number).
        log, previous_log: logs from ``log`` on, and ``previous_log``, are not in
            tables yet.
    """

    tables: dict[tuple[int, int], bytes] = field(default_factory=dict)
    log: int = 0
    previous_log: int = 0


def log_records(raw: bytes) -> Iterator[bytes]:
    """The records of a log; one that a crash cut off at the end is left out.

    Args:
        raw: the file.

    Raises:
        DataError: damage.
    """
    pieces: list[bytes] = []
    place = 0
    while place + _HEAD_BYTES <= len(raw):
        rest_bytes = _BLOCK_BYTES - place % _BLOCK_BYTES
        length = int.from_bytes(raw[place + 4 : place + 6], "little")
        kind = raw[place + 6]
        if rest_bytes < _HEAD_BYTES or (kind == 0 and length == 0):
            place += rest_bytes  # a block's end is filled up
            continue
        if kind > _LAST or _HEAD_BYTES + length > rest_bytes:
            raise DataError(f"a damaged record at byte {place}")
        start, end = place + _HEAD_BYTES, place + _HEAD_BYTES + length
        if end > len(raw):
            return
        if masked_crc(raw[start - 1 : end]) != raw[place : place + 4]:
            raise DataError(f"a record with a wrong checksum at byte {place}")
        if (kind in {_FULL, _FIRST}) == bool(pieces):
            raise DataError(f"a record without its beginning or end at byte {place}")
        pieces.append(raw[start:end])
        if kind in {_FULL, _LAST}:
            yield b"".join(pieces)
            pieces.clear()
        place = end


def frame_record(record: bytes) -> bytes:
    """A log that holds one record."""
    room = _BLOCK_BYTES - _HEAD_BYTES
    pieces = [record[i : i + room] for i in range(0, max(len(record), 1), room)]
    out = b""
    for i, piece in enumerate(pieces):
        first, last = i == 0, i == len(pieces) - 1
        kind = _FULL if first and last else _MIDDLE
        if first != last:
            kind = _FIRST if first else _LAST
        typed = bytes([kind]) + piece
        out += masked_crc(typed) + len(piece).to_bytes(2, "little") + typed
    return out


def read_manifest(folder: Path) -> Manifest:
    """The manifest that the file CURRENT names.

    Raises:
        DataError: damaged, or of another key order than Caffe's.
        OSError: it cannot be read.
    """
    name = (folder / "CURRENT").read_text(encoding="ascii", errors="replace").strip()
    if "/" in name or not name.startswith("MANIFEST-"):
        raise DataError(f"CURRENT names no manifest: {name!r}")
    manifest = Manifest()
    for record in log_records((folder / name).read_bytes()):
        _apply(record, manifest)
    return manifest


def _apply(record: bytes, manifest: Manifest) -> None:
    """Take over one change of the manifest."""
    place = 0
    while place < len(record):
        tag, place = read_varint(record, place)
        if tag == 1:
            name, place = _slice(record, place)
            if name != COMPARATOR:
                raise DataError(f"keys are ordered by {name!r}, not as Caffe's")
        elif tag in {2, 3, 4, 9}:
            number, place = read_varint(record, place)
            if tag == 2:
                manifest.log = number
            elif tag == 9:
                manifest.previous_log = number
        elif tag in {5, 6, 7}:
            place = _apply_table(record, place, tag, manifest)
        else:
            raise DataError(f"the manifest has a field {tag} that is not known")


def _apply_table(record: bytes, place: int, tag: int, manifest: Manifest) -> int:
    """Fields about tables: 5 a place of compaction, 6 one gone, 7 a new one."""
    level, place = read_varint(record, place)
    if tag == 5:
        return _slice(record, place)[1]
    number, place = read_varint(record, place)
    if tag == 6:
        manifest.tables.pop((level, number), None)
        return place
    _, place = read_varint(record, place)  # its size
    _, place = _slice(record, place)  # its first key
    last, place = _slice(record, place)
    manifest.tables[level, number] = last[:-KEY_TAIL_BYTES]
    return place


def read_writes(folder: Path, manifest: Manifest) -> Writes:
    """The writes that are in no table yet.

    Raises:
        DataError: damage.
        OSError: a log cannot be read.
    """
    writes: Writes = {}
    numbers = sorted(
        int(path.stem) for path in folder.glob("*.log") if path.stem.isdecimal()
    )
    for number in numbers:
        if number < manifest.log and number != manifest.previous_log:
            continue
        for batch in log_records(_log(folder, number).read_bytes()):
            _replay(batch, writes)
    return writes


def _log(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.log"


def _replay(batch: bytes, writes: Writes) -> None:
    if len(batch) < _BATCH_HEAD_BYTES:
        raise DataError("a batch of writes is cut off")
    number, place = int.from_bytes(batch[:8], "little"), _BATCH_HEAD_BYTES
    while place < len(batch):
        kind = batch[place]
        if kind not in {_DELETE, _PUT}:
            raise DataError(f"a write of a kind {kind} that is not known")
        key, place = _slice(batch, place + 1)
        value = None
        if kind == _PUT:
            value, place = _slice(batch, place)
        writes[key] = (number, value)
        number += 1


def _slice(data: bytes, place: int) -> tuple[bytes, int]:
    """Bytes after their length, and where they end."""
    length, place = read_varint(data, place)
    if place + length > len(data):
        raise DataError("a key or value is cut off")
    return data[place : place + length], place + length


def masked_crc(data: bytes) -> bytes:
    """The checksum as LevelDB stores it: CRC-32C, turned and shifted, 4 bytes."""
    value = crc32c(data)
    turned = value >> 15 | value << 17 & 0xFFFFFFFF
    return (turned + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")
