"""Databases of records in key order, whatever stores them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from poseidon_caffe.errors import DataError

__all__ = ["BACKENDS", "Database", "DatabaseWriter", "Staging", "create_db", "open_db"]

BACKENDS = ("lmdb", "leveldb")
"""Names that `open_db` and `create_db` know (in any case)."""


class Database(Protocol):
    """Records in key order; several threads may read.

    Attributes:
        source: where it is, as the user wrote it.
    """

    source: str

    def __len__(self) -> int:
        """Number of records, at least one."""

    def record(self, index: int) -> bytes:
        """The value of record ``index`` (from 0).  Going forward is cheap."""

    def records(self, indices: Sequence[int]) -> list[bytes]:
        """Several values, read in one go."""

    def key(self, index: int) -> bytes:
        """The key of record ``index``."""

    def keys(self) -> Iterator[bytes]:
        """All keys, in order, without reading the values."""

    def close(self) -> None:
        """Release the files; closing twice does no harm."""


class DatabaseWriter(Protocol):
    """A new database, which appears whole when the ``with`` block ends well."""

    def put(self, key: bytes, value: bytes) -> None:
        """Store one record."""

    def __enter__(self) -> Self:
        """Start writing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Move the database to its place, or remove what was written."""


def _backend_name(backend: str, source: str) -> str:
    name = backend.lower()
    if name not in BACKENDS:
        known = " or ".join(BACKENDS)
        raise DataError(f'{source}: unknown database backend "{backend}", not {known}')
    return name


def open_db(source: str, backend: str = "lmdb") -> Database:
    """Open a database for reading.

    Args:
        source: the folder (or, for LMDB, the data file itself).
        backend: "lmdb" or "leveldb", in any case.

    Raises:
        DataError: missing, empty, damaged, of another kind, or no binding for it.
    """
    name = _backend_name(backend, source)
    try:
        if name == "lmdb":
            from poseidon_caffe.data.lmdb_db import LmdbDatabase

            return LmdbDatabase(source)
        from poseidon_caffe.data.level_db import LevelDatabase

        return LevelDatabase(source)
    except OSError as error:  # a name that is too long, a folder without rights
        raise DataError(f"{source}: cannot be opened: {error.strerror}") from error


def create_db(target: str, backend: str = "lmdb") -> DatabaseWriter:
    """A new database at ``target``, which must not exist yet.

    Raises:
        DataError: the target exists, its folder does not, or no binding for it.
    """
    if _backend_name(backend, target) == "lmdb":
        from poseidon_caffe.data.lmdb_db import LmdbWriter

        return LmdbWriter(target)
    from poseidon_caffe.data.level_db import LevelWriter

    return LevelWriter(target)


class Staging:
    """A folder built beside its target and renamed when it is whole.

    Attributes:
        target: the final place.
        folder: where to build until then.

    Raises:
        DataError: the target exists already or cannot be made.
    """

    def __init__(self, target: str) -> None:
        self.target = Path(target)
        if self.target.exists() or self.target.is_symlink():
            raise DataError(
                f"{target}: already exists; remove it or choose another name "
                "(a database is never overwritten)"
            )
        parent = self.target.absolute().parent
        try:
            made = tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=parent)
        except OSError as error:
            raise DataError(
                f"{target}: cannot write in the folder {parent} ({error.strerror})"
            ) from error
        self.folder = Path(made)
        self.folder.chmod(0o755)

    def finish(self) -> None:
        """Make the files durable and rename the folder to the target."""
        try:
            for path in (*self.folder.iterdir(), self.folder):
                _sync(path)
            # Renaming onto an empty folder would succeed: look once more.
            if self.target.exists():
                raise FileExistsError(errno.EEXIST, "it appeared in the meantime")
            self.folder.rename(self.target)
        except OSError as error:
            self.discard()
            raise DataError(
                f"{self.target}: cannot be put in place ({error.strerror})"
            ) from error
        _sync(self.folder.parent)

    def discard(self) -> None:
        """Remove everything that was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
