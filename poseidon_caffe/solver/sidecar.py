"""The sidecar of a snapshot: what exact resume needs and Caffe's files lack.

``PREFIX_iter_N.poseidonstate`` is JSON: checksums of the two files beside it, the
data positions and generators of every net on every worker, and the solver's own
state.  Format 1, which had only one worker's, is read too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.solver.worker_state import WorkerState
from poseidon_caffe.types import JsonObject

__all__ = ["FORMAT_VERSION", "FileMark", "Sidecar", "mark_of", "plain_json"]

#: Raised when older programs could not read the sidecar any more.
FORMAT_VERSION = 2
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
        workers: each worker's own part, by rank.
        dealt: test batches of each test net so far, on all workers together.
        seed: seed the nets were built with.
        world: number of workers; format 1 knows only the first one's part.
        version: `FORMAT_VERSION`.
    """

    iteration: int
    model: FileMark
    state: FileMark
    workers: list[WorkerState]
    dealt: list[int] = field(default_factory=list)
    seed: int = 0
    world: int = 1
    version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One JSON text; equal sidecars give equal texts."""
        fields = {**asdict(self), "workers": [w.to_json() for w in self.workers]}
        return json.dumps(fields, default=_plain, sort_keys=True, indent=1) + "\n"

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
                return cls._of_json(found if version > 1 else _upgraded(found))
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

    @classmethod
    def _of_json(cls, found: JsonObject) -> Sidecar:
        parts = {
            "model": FileMark(**found["model"]),
            "state": FileMark(**found["state"]),
            "workers": [WorkerState(**worker) for worker in found["workers"]],
        }
        if not parts["workers"]:
            raise ValueError("no worker's state in it")
        return cls(**{**found, **parts})


def _upgraded(found: JsonObject) -> JsonObject:
    """Format 1 as format 2: what it holds is the first worker's."""
    names = ("train", "tests", "losses")
    worker = {name: found[name] for name in names if name in found}
    rest = {name: value for name, value in found.items() if name not in names}
    return {**rest, "workers": [worker], "version": FORMAT_VERSION}


def plain_json(value: JsonObject) -> JsonObject:
    """``value`` as reading it back from JSON gives it: no NumPy, no tuples."""
    plain: JsonObject = json.loads(json.dumps(value, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays, which generator states hold, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    msg = f"{type(value).__name__} in a layer's state is not JSON"
    raise TypeError(msg)
