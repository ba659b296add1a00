"""LevelDB, Caffe's older database: by plyvel where it is, else by ourselves."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from poseidon_caffe.data.cursor import Cursor, CursorDatabase
from poseidon_caffe.data.db import Staging
from poseidon_caffe.data.handles import SharedHandles
from poseidon_caffe.data.level_db_writer import LevelBuilder
from poseidon_caffe.errors import DataError

__all__ = ["LevelDatabase", "LevelWriter"]

_stores = SharedHandles()


def _check(path: Path, source: str) -> None:
    """Tell a LevelDB from what people mistake for one."""
    if (path / "data.mdb").exists():
        raise DataError(
            f"{source}: this is an LMDB, not a LevelDB; write `backend: LMDB` "
            "(LEVELDB is Caffe's default)"
        )
    if not path.exists():
        raise DataError(
            f"{source}: no such LevelDB; relative paths count from the folder in "
            f"which poseidon is started ({Path.cwd()})"
        )
    if not (path / "CURRENT").exists():
        raise DataError(f"{source}: not a LevelDB, the folder has no file CURRENT")


class _Cursor:
    """`Cursor` over a raw LevelDB iterator."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self.key, self.value = iterator.key, iterator.value

    def first(self) -> bool:
        """See `Cursor.first`."""
        self._iterator.seek_to_first()
        return bool(self._iterator.valid())

    def seek(self, key: bytes) -> bool:
        """See `Cursor.seek`."""
        self._iterator.seek(key)
        return bool(self._iterator.valid())

    def next(self) -> bool:
        """See `Cursor.next`."""
        self._iterator.next()
        return bool(self._iterator.valid())


class LevelDatabase(CursorDatabase):
    """A LevelDB open for reading; see `Database`.

    By plyvel; without it, or while another process has the database open, by the
    reader in plain Python (`data.level_db_reader`), which needs no lock.

    LevelDB does not know how many records it has: opening counts them.

    Raises:
        DataError: missing, empty or damaged.
    """

    def __init__(self, source: str) -> None:
        self._path = Path(source)
        _check(self._path, source)
        cursor = self._open(source)
        try:
            super().__init__(source, cursor, _count(cursor), self._failures_of_store)
        except DataError:
            self.release()
            raise
        except self._failures_of_store as error:
            self.release()
            raise DataError(
                f"{source}: the LevelDB is damaged ({error}); make it again or copy "
                "it anew"
            ) from error

    def _open(self, source: str) -> Cursor:
        """The cursor of plyvel's store, or of a reader of our own."""
        try:
            import plyvel
        except ImportError:
            return self._open_reader(source)
        try:
            store = _stores.acquire(
                self._path, lambda path: plyvel.DB(str(path), create_if_missing=False)
            )
        except (plyvel.Error, OSError) as error:
            if _is_locked(error):
                return self._open_reader(source)
            raise DataError(
                f"{source}: the LevelDB cannot be opened ({error}); it may be damaged"
            ) from error
        iterator = store.raw_iterator()
        self._failures_of_store: tuple[type[Exception], ...] = (plyvel.Error,)

        def release() -> None:
            iterator.close()
            _stores.release(self._path)

        self._release = release
        return _Cursor(iterator)

    def _open_reader(self, source: str) -> Cursor:
        from poseidon_caffe.data.level_db_reader import LevelCursor, LevelReader

        try:
            reader = LevelReader(self._path)
        except (DataError, OSError) as error:
            raise DataError(
                f"{source}: the LevelDB cannot be opened ({error}); it may be damaged"
            ) from error
        self._failures_of_store = (OSError, ValueError)
        self._release = reader.close
        return LevelCursor(reader)

    def release(self) -> None:
        """Close the cursor; the store closes with its last user."""
        self._release()


def _is_locked(error: Exception) -> bool:
    """Whether another process has the store, or the folder is not ours to write in."""
    text = str(error)
    return "LOCK" in text or "lock" in text


def _count(cursor: Cursor) -> int:
    count, valid = 0, cursor.first()
    while valid:
        count += 1
        valid = cursor.next()
    return count


class LevelWriter:
    """A new LevelDB, written beside its target and renamed when whole.

    By plyvel, or without it by ourselves (`data.level_db_writer`).

    Args:
        target: must not exist.
    """

    def __init__(self, target: str) -> None:
        self._staging = Staging(target)
        self._failures: tuple[type[Exception], ...] = (OSError,)
        try:
            import plyvel
        except ImportError:
            builder = LevelBuilder(self._staging.folder)
            self._put, self._finish = builder.put, builder.finish
        else:
            store = plyvel.DB(str(self._staging.folder), create_if_missing=True)
            self._failures = (OSError, plyvel.Error)
            self._put, self._finish = store.put, store.close

    def put(self, key: bytes, value: bytes) -> None:
        """Store one record; an equal key replaces the earlier one."""
        try:
            self._put(key, value)
        except self._failures as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._finish()
        except self._failures as refused:
            self._staging.discard()
            if kind is None:
                raise self._failed(refused) from refused
        if kind is not None:
            self._staging.discard()
        else:
            self._staging.finish()

    def _failed(self, error: Exception) -> DataError:
        return DataError(
            f"{self._staging.target}: writing failed ({error}); nothing is kept"
        )
