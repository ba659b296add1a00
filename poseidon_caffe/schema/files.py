"""Files into memory, with errors that say what the file really is."""

from __future__ import annotations

import difflib
import errno
import os
from pathlib import Path

from poseidon_caffe.errors import ParseError

__all__ = ["StrPath", "is_binary", "load", "sniff"]

StrPath = str | os.PathLike[str]
"""What every reader and writer here takes for a file's name."""

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"version https://git-lfs", "a git-lfs pointer, not the file it points to"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x80\x02", "a Python pickle"),
)


def load(path: StrPath, what: str, limit_bytes: int | None = None) -> bytes:
    """Contents of a file.

    Args:
        path: the file.
        what: what is looked for, for messages: ``"prototxt"``.
        limit_bytes: refuse larger files before they are read.

    Raises:
        ParseError: missing (with near names in that folder), a directory,
            unreadable, or larger than the limit.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit_bytes is not None and size > limit_bytes:
                raise ParseError(_too_large(name, what, size, limit_bytes), path=name)
            return file.read()
    except OSError as error:
        raise ParseError(_unreadable(name, what, error), path=name) from error
    except ValueError as error:
        raise ParseError(f"{name!r}: no file can be called so: {error}") from error


def sniff(data: bytes) -> str | None:
    """What the bytes look like ("an HDF5 file"), or None when nothing is known."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, as a failed download leaves"
    if data.strip() and not is_binary(data):
        return "a text file"
    return None


def is_binary(data: bytes) -> bool:
    """Whether the first 4 KiB hold bytes that no text has."""
    head = data[:4096]
    return any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head)


def _too_large(name: str, what: str, size: int, limit_bytes: int) -> str:
    return (
        f"{name}: this {what} has {size} bytes, and protobuf reads at most "
        f"{limit_bytes}; store nets of this size as HDF5 (snapshot_format: HDF5)"
    )


def _unreadable(name: str, what: str, error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return f"{name}: this is a directory, where a {what} is expected"
    if error.errno != errno.ENOENT:
        return f"{name}: the {what} cannot be read: {error.strerror}"
    folder = Path(name).parent
    if not folder.is_dir():
        return f"{name}: no such {what}: the folder {folder} does not exist"
    near = difflib.get_close_matches(Path(name).name, _names(folder), n=3)
    if near:
        return f"{name}: no such {what}; did you mean {' or '.join(near)}?"
    where = "" if Path(name).is_absolute() else f" (looked from {Path.cwd()})"
    return f"{name}: no such {what}{where}"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())
    except OSError:
        return []
