"""An LMDB's first pages: whether the file holds all that they speak of.

liblmdb maps the file and believes it, so a page beyond the end (the usual cause: a
copy that was cut short) ends the process by SIGBUS.  The layout is that of MDB_meta,
MDB_page and MDB_node in LMDB's mdb.c.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from poseidon_caffe.errors import DataError

__all__ = ["check_lmdb"]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEAD_BYTES = 16
_NO_PAGE = 2**64 - 1
_BRANCH = 0x01
_NODE_IS_ELSEWHERE = 0x01
# Magic, version, address and size of the map; of both tables (free pages, records)
# pad, flags, depth, pages of three kinds, entries, root; last page, transaction.
_META = struct.Struct("<IIQQ IHH5Q IHH5Q QQ")
_HEADER_BYTES = _PAGE_HEAD_BYTES + _META.size
_PAGE_SIZES = {2**n for n in range(9, 17)}
_AGAIN = "copy it again or make the LMDB again"


class _Meta(NamedTuple):
    """What a meta page says; the newer of two holds."""

    transaction: int
    last_page: int
    page_bytes: int
    roots: tuple[int, int]

    @classmethod
    def read(cls, file: BinaryIO, at: int, name: str) -> Self:
        """Read the meta page at ``at``; DataError if liblmdb here would not.

        Args:
            file: data.mdb.
            at: in bytes.
            name: of the file, for messages.
        """
        file.seek(at)
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            found_bytes = file.seek(0, os.SEEK_END)
            raise DataError(
                f"{name} is truncated, {found_bytes} bytes where its header alone "
                f"takes {max(at + _HEADER_BYTES, 8192)}; {_AGAIN}"
            )
        _check_layout(head, name)
        fields = _META.unpack_from(head, _PAGE_HEAD_BYTES)
        page_bytes, last_page, number = fields[4], *fields[-2:]
        if page_bytes not in _PAGE_SIZES:
            raise DataError(
                f"{name}: not a readable LMDB (pages of {page_bytes} bytes), it is "
                f"damaged; {_AGAIN}"
            )
        return cls(number, last_page, page_bytes, (fields[11], fields[19]))


def check_lmdb(path: Path, source: str) -> None:
    """Refuse what liblmdb cannot read on this machine, or only until it dies.

    The file may be longer than its pages (sparse, or written by MDB_WRITEMAP), grow
    meanwhile, and lack pages at its end that are free.

    Args:
        path: the data file.
        source: the database's name, for messages.

    Raises:
        DataError: truncated, damaged in its first pages, of another version of
            LMDB's format, or written by a 32-bit or big-endian machine.
        OSError: it cannot be read.
    """
    name = f"{source}: {path.name}"
    with path.open("rb") as file:
        first = _Meta.read(file, 0, name)
        meta = max(first, _Meta.read(file, first.page_bytes, name))
        # Asked last: a writer's pages are there before the header that names them.
        found_bytes = file.seek(0, os.SEEK_END)
        needed_bytes = (meta.last_page + 1) * meta.page_bytes
        if found_bytes < needed_bytes and not _lacks_only_free(file, meta, found_bytes):
            raise DataError(
                f"{name} is truncated, {found_bytes} bytes where its header speaks of "
                f"{needed_bytes}; {_AGAIN}"
            )
    if any(meta.last_page < root < _NO_PAGE for root in meta.roots):
        raise DataError(f"{name}: its header is damaged; {_AGAIN}")


def _check_layout(head: bytes, name: str) -> None:
    """Whose format it is."""
    magic, version = _META.unpack_from(head, _PAGE_HEAD_BYTES)[:2]
    if magic == _MAGIC:
        if version == _VERSION:
            return
        raise DataError(
            f"{name} has version {version} of LMDB's format, and only version "
            f"{_VERSION} (that of LMDB 0.9) can be read: make it again"
        )
    little, big = struct.pack("<I", _MAGIC), struct.pack(">I", _MAGIC)
    for at, magic_bytes, machine in (
        (12, little, "32-bit little-endian"),
        (12, big, "32-bit big-endian"),
        (16, big, "64-bit big-endian"),
    ):
        if head[at : at + 4] == magic_bytes:
            raise DataError(
                f"{name} was written by a {machine} machine, whose pages differ: "
                "move it with LMDB's mdb_dump there and mdb_load here"
            )
    raise DataError(
        f"{name}: not a readable LMDB, it does not begin like one; it may be damaged "
        f"or of another kind: {_AGAIN}"
    )


def _lacks_only_free(file: BinaryIO, meta: _Meta, found_bytes: int) -> bool:
    """Whether each page beyond the end is in the list of free ones.

    A transaction that deletes what it wrote never writes those pages.
    """
    first_missing = found_bytes // meta.page_bytes
    try:
        free = {page for page in _free_pages(file, meta) if page >= first_missing}
    except (struct.error, EOFError):
        return False
    return len(free) == meta.last_page + 1 - first_missing


def _free_pages(file: BinaryIO, meta: _Meta) -> Iterator[int]:
    """Walk the table of free pages: lists of them, each a count and numbers."""
    size = meta.page_bytes
    waiting = [meta.roots[0]] if meta.roots[0] != _NO_PAGE else []
    pages = file.seek(0, os.SEEK_END) // size
    for _ in range(pages):  # no more of them, so that a damaged table ends too
        if not waiting:
            return
        page = _read(file, waiting.pop() * size, size)
        flags, end = struct.unpack_from("<10xHH", page)
        for (at,) in struct.iter_unpack("<H", page[_PAGE_HEAD_BYTES:end]):
            low, high, kind, key_bytes = struct.unpack_from("<4H", page, at)
            if flags & _BRANCH:
                waiting.append(low | high << 16 | kind << 32)
                continue
            at_data, data_bytes = at + 8 + key_bytes, low | high << 16
            data = page[at_data : at_data + data_bytes]
            if kind & _NODE_IS_ELSEWHERE:
                (far,) = struct.unpack_from("<Q", page, at_data)
                data = _read(file, far * size + _PAGE_HEAD_BYTES, data_bytes)
            (count,) = struct.unpack_from("<Q", data)
            yield from struct.unpack_from(f"<{count}Q", data, 8)


def _read(file: BinaryIO, at: int, size_bytes: int) -> bytes:
    file.seek(at)
    data = file.read(size_bytes)
    if len(data) < size_bytes:
        raise EOFError
    return data
