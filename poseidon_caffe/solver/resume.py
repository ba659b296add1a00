"""Taking up a snapshot again, and finding the newest one that is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from poseidon_caffe.errors import PoseidonError, SnapshotError
from poseidon_caffe.schema.atomic import remove_leftovers
from poseidon_caffe.schema.hdf5 import read_net_hdf5
from poseidon_caffe.schema.upgrade import read_weights
from poseidon_caffe.solver.sidecar import Sidecar
from poseidon_caffe.solver.snapshot import SIDECAR_SUFFIX
from poseidon_caffe.solver.state_file import (
    StateFile,
    read_state_file,
    refuse_weights,
)

__all__ = ["Snapshot", "find_newest_snapshot", "open_snapshot"]

_STATE_SUFFIXES = (".solverstate", ".solverstate.h5")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that has been read and fits together.

    Attributes:
        state: contents of the solverstate.
        model: path of the weights, None when the state names none.
        sidecar: ours, None for a bare Caffe snapshot.
    """

    state: StateFile
    model: Path | None
    sidecar: Sidecar | None


def open_snapshot(path: str) -> Snapshot:
    """Read a ``.solverstate`` and find what belongs to it.

    Raises:
        SnapshotError: missing, damaged, weights given instead of a state, weights
            not found or changed since.
    """
    where = Path(path)
    if where.name.endswith(SIDECAR_SUFFIX):
        where = where.parent / Sidecar.read(where).state.name
    refuse_weights(where)
    sidecar = _sidecar_of(where)
    state = read_state_file(where)
    return Snapshot(state, _find_model(where, state, sidecar), sidecar)


def _sidecar_of(state_path: Path) -> Sidecar | None:
    """The sidecar that names this state, None for a bare Caffe snapshot.

    Raises:
        SnapshotError: the state is not the one that the sidecar was made with.
    """
    stem = _stem(state_path.name)
    path = state_path.with_name(stem + SIDECAR_SUFFIX)
    if not path.exists():
        return None
    sidecar = Sidecar.read(path)
    if sidecar.state.name != state_path.name:
        return None  # of the snapshot in the other format
    if not sidecar.state.matches(state_path):
        raise SnapshotError(_changed(state_path, path))
    return sidecar


def _changed(file: Path, sidecar: Path) -> str:
    return (
        f"{file}: damaged, cut off or changed since it was written (size or checksum "
        f"differ from {sidecar.name}); remove {sidecar} to use it all the same"
    )


def _stem(name: str) -> str:
    """``p_iter_5.solverstate.h5`` without its suffix."""
    for suffix in reversed(_STATE_SUFFIXES):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return Path(name).stem


def _find_model(path: Path, state: StateFile, sidecar: Sidecar | None) -> Path | None:
    """The weights: where the state says, or beside it; the right ones if known."""
    if not state.learned_net:
        return None
    named = Path(state.learned_net)
    twin = path.with_name(path.name.replace(".solverstate", ".caffemodel"))
    candidates = [named, path.with_name(named.name), twin]
    if sidecar is not None:
        # A snapshot that was moved or renamed stays together.
        candidates.insert(0, path.with_name(sidecar.model.name))
    there = [candidate for candidate in candidates if candidate.exists()]
    if not there:
        msg = (
            f"{path}: the weights it belongs to are missing: looked for "
            + " and ".join(str(c) for c in dict.fromkeys(candidates))
        )
        raise SnapshotError(msg)
    if sidecar is None:
        return there[0]
    right = [candidate for candidate in there if sidecar.model.matches(candidate)]
    if not right:
        beside = path.with_name(_stem(path.name) + SIDECAR_SUFFIX)
        raise SnapshotError(_changed(there[0], beside))
    return right[0]


def find_newest_snapshot(prefix: str) -> str | None:
    """Path of the newest whole solverstate of ``prefix``, None if there is none.

    Snapshots with a sidecar must match its checksums; bare Caffe pairs must be
    readable.  Temporary files that a killed run left are removed.
    """
    start = Path(prefix)
    remove_leftovers(start)
    remove_leftovers(start.with_name(f".{start.name}"))
    for path in _newest_first(start):
        if _is_whole(path):
            return str(path)
    return None


def _newest_first(prefix: Path) -> Iterator[Path]:
    suffixes = "|".join(map(re.escape, _STATE_SUFFIXES))
    pattern = re.compile(rf"{re.escape(prefix.name)}_iter_(\d+)(?:{suffixes})")
    try:
        names = [path.name for path in prefix.parent.iterdir()]
    except OSError:
        return
    found = [(int(m[1]), name) for name in names if (m := pattern.fullmatch(name))]
    for _, name in sorted(found, reverse=True):
        yield prefix.parent / name


def _is_whole(path: Path) -> bool:
    sidecar_path = path.with_name(_stem(path.name) + SIDECAR_SUFFIX)
    try:
        if sidecar_path.exists():
            sidecar = Sidecar.read(sidecar_path)
            if sidecar.state.name == path.name:
                return sidecar.is_whole(path.parent)
        model = open_snapshot(str(path)).model
        if model is not None:
            _ = read_net_hdf5(model) if model.suffix == ".h5" else read_weights(model)
    except PoseidonError:
        return False
    return True
