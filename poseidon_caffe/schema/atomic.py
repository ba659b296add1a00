"""Files written whole or not at all.

A snapshot that a crash, a full disk or a signal cuts short must never stand in
the place of the one before it: everything goes to a temporary file in the same
folder, is flushed to the disk, and is renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.schema.files import StrPath

__all__ = ["Buffer", "atomic_path", "atomic_write", "remove_leftovers"]

Buffer = bytes | bytearray | memoryview
"""What can be written to a file."""

_TEMPORARY = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp$")
# A name may have 255 bytes; the temporary one needs room for its tail.
_LONGEST_STEM = 200


@contextlib.contextmanager
def atomic_path(path: StrPath, wanted_bytes: int | None = None) -> Iterator[Path]:
    """Temporary path that becomes ``path`` when the block ends without error.

    For libraries that want a file name, such as h5py::

        with atomic_path("a.h5") as temporary:
            write_somehow(temporary)

    On any error, an interrupt included, the temporary file is removed and what
    stood at ``path`` is untouched.  A symbolic link is followed, not replaced.

    Args:
        path: where the file shall stand.
        wanted_bytes: expected size, for the message when the disk is full.

    Raises:
        SnapshotError: the operating system refused, with its reason.
    """
    target = Path(path).resolve()
    stem = target.name.encode()[:_LONGEST_STEM].decode(errors="ignore")
    tail = f"{os.getpid()}.{secrets.token_hex(4)}.tmp"
    temporary = target.with_name(f".{stem}.{tail}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        with contextlib.suppress(OSError):  # not every file system can
            _sync(target.parent)
    except OSError as error:
        _remove(temporary)  # first, so that the free space counted is what remains
        raise SnapshotError(_refused(target, error, wanted_bytes)) from error
    finally:
        _remove(temporary)


def atomic_write(
    path: StrPath, data: Buffer | Iterable[Buffer], wanted_bytes: int | None = None
) -> None:
    """Writes bytes, or pieces of bytes one after the other, whole or not at all.

    Args:
        path: where the file shall stand.
        data: one buffer, or an iterable of buffers (written as they come, so a
            large file is never in memory at once).
        wanted_bytes: expected size, for the message when the disk is full.

    Raises:
        SnapshotError: the operating system refused, with its reason.
    """
    pieces: Iterable[Buffer]
    if isinstance(data, (bytes, bytearray, memoryview)):
        pieces, wanted_bytes = (data,), memoryview(data).nbytes
    else:
        pieces = data
    with atomic_path(path, wanted_bytes) as temporary, temporary.open("xb") as file:
        for piece in pieces:
            file.write(piece)


def remove_leftovers(prefix: StrPath) -> list[Path]:
    """Removes temporary files that killed processes left beside ``prefix``.

    Call it where one process alone writes below this prefix, before it does.

    Args:
        prefix: start of the final names, as in ``snapshot_prefix``.

    Returns:
        What was removed.
    """
    start = Path(prefix)
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(start.resolve().parent.glob(".*.tmp")):
            if path.name.startswith(f".{start.name}") and _TEMPORARY.search(path.name):
                path.unlink()
                removed.append(path)
    return removed


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _refused(target: Path, error: OSError, wanted_bytes: int | None) -> str:
    # HDF5 hides the system's error in the middle of a long text.
    hidden = re.search(r"errno = (\d+)", str(error))
    number = int(hidden[1]) if hidden else error.errno
    reason = os.strerror(number) if number else str(error)
    said = f"{target}: not written: {reason}"
    if number in (errno.ENOSPC, errno.EDQUOT) and wanted_bytes is not None:
        said += f"; the file needs {wanted_bytes} bytes{_free(target)}"
    if number == errno.ENOENT:
        said += f"; make the folder {target.parent} first"
    return f"{said}; what stood there before is untouched"


def _free(target: Path) -> str:
    try:
        return f", {shutil.disk_usage(target.parent).free} are free"
    except OSError:
        return ""
