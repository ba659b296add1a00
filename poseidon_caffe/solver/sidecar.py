"""The sidecar of a snapshot: what exact resume needs and Caffe's files lack.

``PREFIX_iter_N.poseidonstate`` is JSON: checksums of the two files beside it, the
data positions and generators of every net, and the solver's own state.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.types import JsonObject

__all__ = ["FORMAT_VERSION", "FileMark", "Sidecar", "mark_of"]

#: Raised when older programs could not read the sidecar any more.
FORMAT_VERSION = 1
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileMark:
    """A file by its name (without folder), size and checksum."""

    name: str
    size_bytes: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether ``path`` is there and holds exactly the marked bytes."""
        try:
            if path.stat().st_size != self.size_bytes:
                return False
            return mark_of(path, self.name) == self
        except OSError:
            return False


def mark_of(path: Path, name: str) -> FileMark:
    """Size and checksum of the file at ``path``, to be called ``name``."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileMark(name, size, digest.hexdigest())


@dataclass(frozen=True)
class Sidecar:
    """Contents of a ``.poseidonstate`` file.

    Attributes:
        iteration: iterations done.
        model, state: the Caffe pair.
        train: `Net.state` of the train net; tests: of each test net.
        losses: the window of the smoothed loss, oldest first.
        seed: seed the nets were built with.
        world: number of workers.
        version: `FORMAT_VERSION` of the writer.
    """

    iteration: int
    model: FileMark
    state: FileMark
    train: JsonObject
    tests: list[JsonObject] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seed: int = 0
    world: int = 1
    version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One JSON text; equal sidecars give equal texts."""
        return json.dumps(asdict(self), default=_plain, sort_keys=True, indent=1) + "\n"

    def is_whole(self, folder: Path) -> bool:
        """Whether both files stand in ``folder`` with the right contents."""
        marks = (self.state, self.model)
        return all(mark.matches(folder / mark.name) for mark in marks)

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """The sidecar in a file.

        Raises:
            SnapshotError: unreadable, damaged, or of a newer version.
        """
        try:
            found = json.loads(path.read_bytes())
            version = int(found["version"])
            if version <= FORMAT_VERSION:
                model, state = FileMark(**found["model"]), FileMark(**found["state"])
                return cls(**{**found, "model": model, "state": state})
        except (OSError, ValueError, TypeError, KeyError) as error:
            msg = (
                f"{path}: this sidecar is damaged or unreadable ({error}); remove it "
                "to resume from the Caffe files alone, without the data position"
            )
            raise SnapshotError(msg) from error
        msg = (
            f"{path}: written by a newer Poseidon (format {version}, this one reads "
            f"{FORMAT_VERSION}); update Poseidon"
        )
        raise SnapshotError(msg)


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays, which generator states hold, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    msg = f"{type(value).__name__} in a layer's state is not JSON"
    raise TypeError(msg)
