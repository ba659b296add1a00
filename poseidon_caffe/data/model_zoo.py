"""Trained models of Caffe's model zoo: a readme that names the file and its SHA-1.

A model's folder has a ``readme.md`` that begins with lines between two ``---``::

    ---
    name: BAIR/BVLC GoogleNet Model
    caffemodel: bvlc_googlenet.caffemodel
    caffemodel_url: http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel
    sha1: 405fc5acd08a3bb12de8ee5e23a96bec22f08204
    ---
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from poseidon_caffe.errors import DataError, ParseError
from poseidon_caffe.schema.atomic import atomic_path
from poseidon_caffe.schema.files import StrPath, load, sniff

__all__ = ["Model", "fetch_model", "front_matter", "read_model"]

_REQUIRED: Final = ("caffemodel", "caffemodel_url", "sha1")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_PIECE_BYTES: Final = 1 << 20
_SILENCE_S: Final = 60.0

Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all or 0 when unknown) after each piece."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Model:
    """What a readme says of its model.

    Attributes:
        path: where the file belongs, in the readme's folder.
        url: where it is had from.
        sha1: of its bytes, 40 hexadecimal digits.
    """

    path: Path
    url: str
    sha1: str


def front_matter(text: str, path: str = "readme.md") -> dict[str, str]:
    """The ``key: value`` lines between the first two lines ``---``.

    Of YAML this reads what readmes have: plain or quoted values of one line, and
    comments; deeper structures are passed over.

    Raises:
        ParseError: there are no two such lines.
    """
    lines = [line.rstrip() for line in text.removeprefix("\ufeff").splitlines()]
    marks = [index for index, line in enumerate(lines) if line.strip() == "---"][:2]
    if len(marks) != 2:
        raise ParseError(
            f"{path}: no front matter: the model's name, address and SHA-1 are "
            "expected at its top, between two lines '---'",
            path=path,
        )
    found: dict[str, str] = {}
    for line in lines[marks[0] + 1 : marks[1]]:
        key, colon, value = line.strip().partition(":")
        if colon and key and not key.startswith(("#", "-")):
            found.setdefault(key.strip(), _plain(value.strip()))
    return found


def _plain(value: str) -> str:
    """A value without quotes or comment."""
    for quote in "\"'":
        if value.startswith(quote) and quote in value[1:]:
            return value[1 : value.index(quote, 1)]
    return re.split(r"\s#|^#", value, maxsplit=1)[0].strip()


def read_model(folder: StrPath) -> Model:
    """What ``folder/readme.md`` says.

    Raises:
        ParseError: no readme, or it lacks a key or has a wrong one.
    """
    path = str(Path(folder, "readme.md"))
    text = load(path, "readme of a model").decode("utf-8", errors="replace")
    found = front_matter(text, path)
    missing = [key for key in _REQUIRED if not found.get(key)]
    if missing:
        raise ParseError(
            f"{path}: its front matter lacks {', '.join(missing)}; it has "
            f"{', '.join(found) or 'nothing'}",
            path=path,
        )
    name, sha1 = found["caffemodel"], found["sha1"].lower()
    if Path(name).name != name or name in {".", ".."}:
        raise ParseError(
            f"{path}: caffemodel: expected the plain name of a file in this folder, "
            f"received '{name}'",
            path=path,
        )
    if not _SHA1.fullmatch(sha1):
        raise ParseError(
            f"{path}: sha1: expected 40 hexadecimal digits, received '{sha1}'",
            path=path,
        )
    return Model(Path(folder, name), found["caffemodel_url"], sha1)


def fetch_model(
    model: Model,
    *,
    source: StrPath = "",
    mirror: str = "",
    progress: Progress | None = None,
) -> bool:
    """Puts the model's file in its place, unless the right one is there already.

    The file appears whole, with the right SHA-1, or not at all.  Caffe parity:
    download_model_binary.py, which leaves a wrong file behind.

    Args:
        model: what is wanted.
        source: take it from this file instead of the net.
        mirror: take it from below this address: ``mirror/NAME.caffemodel``.
        progress: told how far it is.

    Returns:
        Whether anything was fetched.

    Raises:
        DataError: not to be had, cut off, or of another SHA-1.
        SnapshotError: the disk refused.
    """
    if model.path.is_file() and _sha1(model.path) == model.sha1:
        return False
    with atomic_path(model.path) as temporary:
        if source:
            origin = os.fspath(source)
            _from_file(origin, temporary, progress)
        else:
            origin = f"{mirror.rstrip('/')}/{model.path.name}" if mirror else model.url
            _from_net(origin, temporary, progress)
        found = _sha1(temporary)
        if found != model.sha1:
            raise DataError(_wrong(origin, temporary, model, found))
    return True


def _from_file(origin: str, target: Path, progress: Progress | None) -> None:
    try:
        with Path(origin).open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            _copy(file, target, total, progress)
    except OSError as error:
        raise DataError(f"{origin}: cannot be copied: {error.strerror}") from error


def _from_net(url: str, target: Path, progress: Progress | None) -> None:
    if not url.startswith(("http://", "https://", "ftp://")):
        raise DataError(
            f"'{url}' is no address of the forms http://..., https://... or ftp://...; "
            "give a file by --from-file"
        )
    try:
        with urllib.request.urlopen(url, timeout=_SILENCE_S) as reply:  # noqa: S310
            length = reply.headers.get("Content-Length") or "0"
            total = int(length) if length.isdecimal() else 0
            done = _copy(reply, target, total, progress)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DataError(f"{url}: cannot be downloaded: {_reason(error)}") from error
    if total and done != total:
        raise DataError(
            f"{url}: cut off after {done} of {total} bytes; nothing was kept, try again"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, TimeoutError):
        return f"the server was silent for {_SILENCE_S:.0f} s"
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _copy(
    source: _Readable, target: Path, total: int, progress: Progress | None
) -> int:
    done = 0
    with target.open("xb") as file:
        while piece := source.read(_PIECE_BYTES):
            file.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
    return done


def _sha1(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _wrong(origin: str, path: Path, model: Model, found: str) -> str:
    with path.open("rb") as file:
        kind = sniff(file.read(512))
    seen = f" (it is {kind})" if kind else ""
    return (
        f"{origin}: not the model that the readme means{seen}: its SHA-1 is {found} "
        f"({path.stat().st_size} bytes), expected {model.sha1}; nothing was kept"
    )
