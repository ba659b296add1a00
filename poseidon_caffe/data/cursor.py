"""Records by number over stores that know only cursors and keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from poseidon_caffe.errors import DataError

__all__ = ["Cursor", "CursorDatabase"]

_MARK_EVERY = 1024


class Cursor(Protocol):
    """A place in a store."""

    def first(self) -> bool:
        """Go to the first record; False when there is none."""

    def seek(self, key: bytes) -> bool:
        """Go to a key that is known to exist."""

    def next(self) -> bool:
        """Go one record further; False at the end."""

    def key(self) -> bytes:
        """The key here."""

    def value(self) -> bytes:
        """The value here, copied."""


class CursorDatabase:
    """`Database` over one cursor.

    Steps are cheap (0.3 µs in LMDB, values untouched), so going forward just
    steps; every 1024th key is remembered on the way, so going back costs at most
    1024 steps.  No list of all keys is made: ImageNet has 1.2 million.

    Args:
        source: the name for messages.
        cursor: used by this object alone.
        size: number of records.
        failures: what the store raises when it is damaged.
    """

    def __init__(
        self,
        source: str,
        cursor: Cursor,
        size: int,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        self.source = source
        self._cursor = cursor
        self._size = size
        self._failures = failures
        self._lock = threading.Lock()
        self._closed = False
        if size == 0 or not cursor.first():
            raise DataError(
                f"{source}: the database is empty; write records into it first "
                "(poseidon convert_imageset)"
            )
        self._place = 0
        self._marks = [cursor.key()]

    def __len__(self) -> int:
        return self._size

    def record(self, index: int) -> bytes:
        """See `Database.record`."""
        return self.records((index,))[0]

    def records(self, indices: Sequence[int]) -> list[bytes]:
        """See `Database.records`."""
        with self._lock:
            try:
                return [self._value(index) for index in indices]
            except self._failures as error:
                raise self._damaged(error) from error

    def key(self, index: int) -> bytes:
        """See `Database.key`."""
        with self._lock:
            try:
                self._go(index)
                return self._cursor.key()
            except self._failures as error:
                raise self._damaged(error) from error

    def keys(self) -> Iterator[bytes]:
        """See `Database.keys`."""
        return (self.key(index) for index in range(self._size))

    def close(self) -> None:
        """See `Database.close`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.release()

    def release(self) -> None:
        """Close the cursor and what it stands on; called once, by `close`."""

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.source}: reading record {self._place} failed ({error}); "
            "the database is damaged, make it again or copy it anew"
        )

    def _value(self, index: int) -> bytes:
        self._go(index)
        return self._cursor.value()

    def _go(self, index: int) -> None:
        """Stand at record ``index``."""
        if self._closed:
            raise DataError(f"{self.source}: the database is closed already")
        if not 0 <= index < self._size:
            raise DataError(
                f"{self.source}: there is no record {index}, only {self._size} records"
            )
        mark = min(index // _MARK_EVERY, len(self._marks) - 1)
        if not mark * _MARK_EVERY <= self._place <= index:
            self._step(self._cursor.seek(self._marks[mark]), mark * _MARK_EVERY)
        while self._place < index:
            self._step(self._cursor.next(), self._place + 1)
            number, rest = divmod(self._place, _MARK_EVERY)
            if rest == 0 and number == len(self._marks):
                self._marks.append(self._cursor.key())

    def _step(self, arrived: bool, place: int) -> None:  # noqa: FBT001
        if not arrived:
            raise DataError(
                f"{self.source}: record {place} of {self._size} cannot be reached; "
                "the database is damaged or was changed while it was read"
            )
        self._place = place
