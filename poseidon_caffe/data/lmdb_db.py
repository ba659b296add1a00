"""LMDB, the database that Caffe users have."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb

from poseidon_caffe.data.cursor import CursorDatabase
from poseidon_caffe.data.db import Staging
from poseidon_caffe.data.handles import SharedHandles
from poseidon_caffe.data.lmdb_header import check_lmdb
from poseidon_caffe.errors import DataError

__all__ = ["LmdbDatabase", "LmdbWriter"]

_environments = SharedHandles()

_FIRST_MAP_BYTES = 16 << 20
_BATCH_RECORDS = 1000
_BATCH_BYTES = 32 << 20


def _data_file(path: Path, source: str) -> Path:
    """The file that holds the pages; DataError when there is none."""
    file = path / "data.mdb" if path.is_dir() else path
    if file.is_file():
        if file.stat().st_size == 0:
            raise DataError(f"{source}: {file.name} is empty; make the LMDB again")
        return file
    if not path.exists():
        raise DataError(
            f"{source}: no such LMDB; relative paths count from the folder in "
            f"which poseidon is started ({Path.cwd()})"
        )
    if (path / "CURRENT").exists():
        raise DataError(
            f"{source}: this is a LevelDB, not an LMDB; write `backend: LEVELDB`"
        )
    raise DataError(f"{source}: not an LMDB, the folder has no data.mdb")


def _open(path: Path) -> Any:
    """Open read-only, without locks (as Caffe's readers do, on any file system)."""
    return lmdb.open(
        str(path),
        subdir=path.is_dir(),
        readonly=True,
        lock=False,
        create=False,
        max_readers=512,
    )


class _Cursor:
    """`Cursor` over an LMDB cursor."""

    def __init__(self, cursor: Any) -> None:
        self.first, self.next = cursor.first, cursor.next
        self.seek, self.key, self.value = cursor.set_key, cursor.key, cursor.value


class LmdbDatabase(CursorDatabase):
    """An LMDB open for reading; see `Database`.

    Args:
        source: the folder with data.mdb, or the data file itself.

    Raises:
        DataError: missing, empty, truncated, damaged, or open elsewhere in this
            process by ``lmdb.open``.
    """

    def __init__(self, source: str) -> None:
        self._path = Path(source)
        file = _data_file(self._path, source)
        try:
            check_lmdb(file, source)
            environment = _environments.acquire(self._path, _open)
        except (lmdb.Error, OSError) as error:
            raise _open_error(source, error) from error
        try:
            self._transaction = environment.begin()
            cursor = _Cursor(self._transaction.cursor())
            size = environment.stat()["entries"]
            super().__init__(source, cursor, size, (lmdb.Error,))
        except lmdb.Error as error:
            _environments.release(self._path)
            raise _open_error(source, error) from error
        except DataError:
            _environments.release(self._path)
            raise

    def release(self) -> None:
        """End the transaction; the environment closes with its last user."""
        self._transaction.abort()
        _environments.release(self._path)


def _open_error(source: str, error: Exception) -> DataError:
    if "already open in this process" in str(error):
        return DataError(
            f"{source}: this Python process has the LMDB open by lmdb.open(); "
            "close that environment first"
        )
    return DataError(
        f"{source}: not a readable LMDB ({error}); it may be damaged or of another "
        "kind: make it again or copy it anew"
    )


class LmdbWriter:
    """A new LMDB, written beside its target and renamed when whole.

    The map grows as needed, and the file is as long as its pages.

    Args:
        target: must not exist.
    """

    def __init__(self, target: str) -> None:
        self._staging = Staging(target)
        self._environment = lmdb.open(
            str(self._staging.folder),
            map_size=_FIRST_MAP_BYTES,
            lock=False,
            sync=False,
        )
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Store one record; an equal key replaces the earlier one."""
        self._pending.append((key, value))
        self._pending_bytes += len(key) + len(value)
        if len(self._pending) >= _BATCH_RECORDS or self._pending_bytes > _BATCH_BYTES:
            self._commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        self._commit()
        self._environment.close()
        self._staging.finish()

    def _commit(self) -> None:
        """Write what waits, with a larger map each time it does not fit."""
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value)
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:
                self._abandon()
                raise DataError(
                    f"{self._staging.target}: writing failed ({error}); nothing is kept"
                ) from error
            else:
                self._pending.clear()
                self._pending_bytes = 0
                return

    def _abandon(self) -> None:
        self._environment.close()
        self._staging.discard()
