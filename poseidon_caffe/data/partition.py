"""A database cut into several, one for each worker."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from poseidon_caffe.data.db import Database, create_db, open_db
from poseidon_caffe.data.notes import Notes, Silent
from poseidon_caffe.errors import DataError

__all__ = ["PartitionSettings", "partition"]

_REPORT_EVERY = 1000
_OPEN_PARTS = 16  # each holds up to 32 MB that is not written yet


@dataclass(frozen=True)
class PartitionSettings:
    """What to cut, and how.

    Attributes:
        source: the database.
        parts: how many to make.
        prefix: of their names, ``prefix_0`` and so on; the source's name if empty.
        backend: "lmdb" or "leveldb", of the source and the parts.
    """

    source: str
    parts: int
    prefix: str = ""
    backend: str = "lmdb"

    @property
    def targets(self) -> list[str]:
        """Names of the parts; a slash at the end of the prefix does not count."""
        prefix = (self.prefix or self.source).rstrip("/")
        return [f"{prefix}_{part}" for part in range(self.parts)]


def partition(settings: PartitionSettings, notes: Notes | None = None) -> list[str]:
    """Make the parts: record i goes to part i mod N, key and value unchanged.

    So the worker r of N that reads part r (``shared_file_system: false``) sees the
    records r, r + N, r + 2N, ..., the very ones, in the very order, that it is dealt
    when all workers share the source (`data.feed`).

    Each part appears whole or not at all.

    Returns:
        The names of the parts.

    Raises:
        DataError: the source cannot be read or has fewer records than there are parts
            to make, or a part exists already.
    """
    notes = Silent() if notes is None else notes
    if settings.parts < 1:
        raise DataError(f"{settings.parts} parts: at least 1 is needed")
    targets = settings.targets
    for target in targets:
        if Path(target).exists() or Path(target).is_symlink():
            raise DataError(
                f"{target}: already exists; remove it or choose another prefix "
                "(a database is never overwritten)"
            )
    database = open_db(settings.source, settings.backend)
    try:
        if len(database) < settings.parts:
            raise DataError(
                f"{settings.source}: {len(database)} records cannot be cut into "
                f"{settings.parts} parts"
            )
        notes.info(f"Opening {settings.backend} {settings.source}")
        for first in range(0, settings.parts, _OPEN_PARTS):
            _write(database, settings, first, notes)
    finally:
        database.close()
    notes.info(f"Processed {len(database)} files.")
    notes.info("Done.")
    return targets


def _write(
    database: Database, settings: PartitionSettings, first: int, notes: Notes
) -> None:
    """Make the parts from ``first`` on, as many as may be open, in one pass."""
    targets = settings.targets[first : first + _OPEN_PARTS]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(create_db(target, settings.backend))
            for target in targets
        ]
        for index in range(len(database)):
            place = index % settings.parts - first
            if 0 <= place < len(writers):
                writers[place].put(database.key(index), database.record(index))
            if index and index % (_REPORT_EVERY * settings.parts) == 0:
                notes.info(f"Processed {index} files.")
    for target in targets:
        notes.info(f"Made {target}")
