"""LevelDB, Caffe's older database, through the optional plyvel binding."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from poseidon_caffe.data.cursor import CursorDatabase
from poseidon_caffe.data.db import Staging
from poseidon_caffe.data.handles import SharedHandles
from poseidon_caffe.errors import DataError

__all__ = ["LevelDatabase", "LevelWriter"]

_stores = SharedHandles()


def _binding(source: str) -> Any:
    try:
        import plyvel
    except ImportError as error:
        raise DataError(
            f"{source}: LevelDB needs the plyvel package, which is not installed "
            '(pip install "poseidon-caffe[leveldb]", Python 3.12 at most); or make an '
            "LMDB and write `backend: LMDB` (LEVELDB is Caffe's default backend)"
        ) from error
    return plyvel


def _check(path: Path, source: str) -> None:
    """Tell a LevelDB from what people mistake for one."""
    if (path / "data.mdb").exists():
        raise DataError(
            f"{source}: this is an LMDB, not a LevelDB; write `backend: LMDB` "
            "(LEVELDB is Caffe's default)"
        )
    if not path.exists():
        raise DataError(
            f"{source}: no such LevelDB; paths in a prototxt count from the folder in "
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

    LevelDB does not know how many records it has: opening counts them.

    Raises:
        DataError: missing, empty, damaged, in use by another process, or plyvel is
            not installed.
    """

    def __init__(self, source: str) -> None:
        self._path = Path(source)
        _check(self._path, source)
        plyvel = _binding(source)
        try:
            store = _stores.acquire(
                self._path, lambda path: plyvel.DB(str(path), create_if_missing=False)
            )
        except (plyvel.Error, OSError) as error:
            raise DataError(
                f"{source}: the LevelDB cannot be opened ({error}); it may be damaged, "
                "or another process has it open (LevelDB allows one only)"
            ) from error
        self._iterator = store.raw_iterator()
        try:
            cursor = _Cursor(self._iterator)
            super().__init__(source, cursor, _count(cursor), (plyvel.Error,))
        except plyvel.Error as error:
            self.release()
            raise DataError(
                f"{source}: the LevelDB is damaged ({error}); make it again or copy "
                "it anew"
            ) from error
        except DataError:
            self.release()
            raise

    def release(self) -> None:
        """Close the iterator; the store closes with its last user."""
        self._iterator.close()
        _stores.release(self._path)


def _count(cursor: _Cursor) -> int:
    count, valid = 0, cursor.first()
    while valid:
        count += 1
        valid = cursor.next()
    return count


class LevelWriter:
    """A new LevelDB, written beside its target and renamed when whole."""

    def __init__(self, target: str) -> None:
        plyvel = _binding(target)
        self._failure = plyvel.Error
        self._staging = Staging(target)
        self._store = plyvel.DB(str(self._staging.folder), create_if_missing=True)

    def put(self, key: bytes, value: bytes) -> None:
        """Store one record; an equal key replaces the earlier one."""
        try:
            self._store.put(key, value)
        except self._failure as error:
            raise DataError(
                f"{self._staging.target}: writing failed ({error}); nothing is kept"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()
        if kind is not None:
            self._staging.discard()
        else:
            self._staging.finish()
