"""A LevelDB read in plain Python, without its lock and without writing into it.

For Pythons that have no binding, and for several processes that read one database,
which LevelDB itself does not allow.  Nobody may write meanwhile.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from pathlib import Path

from poseidon_caffe.data.level_log import Manifest, Writes, read_manifest, read_writes
from poseidon_caffe.data.level_table import Entry, Table
from poseidon_caffe.errors import DataError

__all__ = ["LevelCursor", "LevelReader"]

_OPEN_TABLES = 100
_TRIES = 10
_PAUSE_S = 0.02


class LevelReader:
    """The tables and logs of one database, merged.

    Args:
        folder: of the database.

    Raises:
        DataError: damaged.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[int, Table] = {}
        self._manifest, self._writes = self._consistent()
        self._write_order = sorted(self._writes)

    def entries(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from ``start`` on, and values: the latest of each, none deleted.

        Raises:
            DataError: damage.
            OSError: a file cannot be read.
        """
        runs = [self._from_writes(start)]
        levels = self._levels(start)
        # Tables of level 0 overlap; those of another level lie one after the other.
        runs += [self._from_tables([number], start) for number in levels.pop(0, [])]
        runs += [self._from_tables(numbers, start) for numbers in levels.values()]
        before: bytes | None = None
        for key, _, value in heapq.merge(*runs):
            if key != before and value is not None:
                yield key, value
            before = key

    def close(self) -> None:
        """Release the files."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _consistent(self) -> tuple[Manifest, Writes]:
        """Manifest and logs of one moment.

        Another process that opens the database moves what is in logs into tables and
        removes what it no longer needs, so whatever changed meanwhile is read anew.
        """
        for remaining in reversed(range(_TRIES)):
            try:
                manifest = read_manifest(self._folder)
                for _, number in manifest.tables:
                    self._path(number)
                writes = read_writes(self._folder, manifest)
                if read_manifest(self._folder) == manifest:
                    return manifest, writes
            except FileNotFoundError as error:
                if not remaining:
                    raise DataError(f"{error}: the database is not whole") from error
            time.sleep(_PAUSE_S)
        raise DataError("the database changes all the time: another process writes")

    def _path(self, number: int) -> Path:
        for ending in ("ldb", "sst"):
            path = self._folder / f"{number:06d}.{ending}"
            if path.exists():
                return path
        raise FileNotFoundError(f"the table {number:06d}.ldb is missing")

    def _levels(self, start: bytes) -> dict[int, list[int]]:
        """Tables by level, in the order of their keys, that reach up to ``start``."""
        found: dict[int, list[int]] = {}
        ordered = sorted(self._manifest.tables.items(), key=lambda item: item[1])
        for (level, number), last_key in ordered:
            if last_key >= start:
                found.setdefault(level, []).append(number)
        return found

    def _table(self, number: int) -> Table:
        if number in self._tables:
            table = self._tables.pop(number)
        else:
            if len(self._tables) >= _OPEN_TABLES:
                # Whoever still reads from it holds it, so it closes when they end.
                del self._tables[next(iter(self._tables))]
            table = Table(self._path(number))
        self._tables[number] = table
        return table

    def _from_tables(self, numbers: list[int], start: bytes) -> Iterator[Entry]:
        for number in numbers:
            yield from self._table(number).entries(start)

    def _from_writes(self, start: bytes) -> Iterator[Entry]:
        for key in self._write_order:
            if key >= start:
                age, value = self._writes[key]
                yield Entry(key, -age, value)


class LevelCursor:
    """`data.cursor.Cursor` over a reader."""

    def __init__(self, reader: LevelReader) -> None:
        self._reader = reader
        self._entries = reader.entries()
        self._here: tuple[bytes, bytes] = (b"", b"")

    def first(self) -> bool:
        """See `Cursor.first`."""
        return self.seek(b"")

    def seek(self, key: bytes) -> bool:
        """See `Cursor.seek`."""
        self._entries = self._reader.entries(key)
        return self.next()

    def next(self) -> bool:
        """See `Cursor.next`.

        Raises:
            OSError: damage too, as from any other store.
        """
        try:
            found = next(self._entries, None)
        except DataError as error:
            raise OSError(str(error)) from error
        if found is not None:
            self._here = found
        return found is not None

    def key(self) -> bytes:
        """See `Cursor.key`."""
        return self._here[0]

    def value(self) -> bytes:
        """See `Cursor.value`."""
        return self._here[1]
