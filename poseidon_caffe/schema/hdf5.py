"""Caffe's HDF5 twins: ``.caffemodel.h5`` and ``.solverstate.h5``.

A net file has a group ``data/<layer>`` for every layer, with a dataset ``0``,
``1``, ... a parameter; gradients, where stored, stand below ``diff`` likewise.
A parameter that layers share is stored by its owner only.  A state file has the
datasets ``iter``, ``learned_net``, ``current_step`` and the group ``history``.

h5py is imported when a file is touched, not before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.errors import ParseError, PoseidonError
from poseidon_caffe.schema.atomic import atomic_path
from poseidon_caffe.schema.files import StrPath, load
from poseidon_caffe.types import Array

__all__ = [
    "LayerArrays",
    "StateArrays",
    "read_net_hdf5",
    "read_state_hdf5",
    "write_net_hdf5",
    "write_state_hdf5",
]


# What h5py and the readers here raise on bytes that make no sense.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError)


@dataclass(frozen=True)
class LayerArrays:
    """The stored parameters of one layer.

    Attributes:
        name: the layer's name; a slash in it makes nested groups.
        data: its parameters; None for one that another layer owns.
        diff: its gradients, or () where none are stored.
    """

    name: str
    data: tuple[Array | None, ...]
    diff: tuple[Array, ...] = ()


@dataclass(frozen=True)
class StateArrays:
    """What a solver state holds.

    Attributes:
        iter: iterations done.
        learned_net: file with the weights that belong to it.
        current_step: steps of the learning rate done.
        history: the solver's arrays, in its own order.
    """

    iter: int
    learned_net: str
    current_step: int
    history: tuple[Array, ...]


def write_net_hdf5(
    path: StrPath, layers: Sequence[LayerArrays], *, write_diff: bool = False
) -> None:
    """Writes weights as Caffe's ``Net::ToHDF5`` lays them out, whole or not at all.

    Args:
        path: the file, ``*.caffemodel.h5``.
        layers: all layers of the net, those without parameters too.
        write_diff: also store gradients (shared ones with every user).

    Raises:
        SnapshotError: the disk refused, or two layers claim one name.
    """
    arrays = [array for layer in layers for array in (*layer.data, *layer.diff)]
    with _create(path, arrays) as file:
        groups = ["data", "diff"] if write_diff else ["data"]
        for name in groups:
            file.create_group(name)
        for layer in layers:
            for name in groups:
                file[name].require_group(layer.name)
            for index, array in enumerate(layer.data):
                if array is not None:
                    _save(file, f"data/{layer.name}/{index}", array)
            for index, array in enumerate(layer.diff if write_diff else ()):
                _save(file, f"diff/{layer.name}/{index}", array)


def read_net_hdf5(path: StrPath) -> tuple[LayerArrays, ...]:
    """Weights of a ``.caffemodel.h5``, layers in the order of their names.

    Raises:
        ParseError: missing, damaged, or laid out otherwise.
    """
    with _open(path) as file:
        if "data" not in file:
            raise _malformed(path, "the group 'data'", file)
        diffs = file.get("diff", {})
        layers = []
        for name, data in _layer_groups(file["data"], ""):
            diff = _load(diffs[name]) if name in diffs else ()
            kept = tuple(array for array in diff if array is not None)
            layers.append(LayerArrays(name, _load(data), kept))
        return tuple(layers)


def write_state_hdf5(path: StrPath, state: StateArrays) -> None:
    """Writes a solver state as Caffe lays it out, whole or not at all.

    Raises:
        SnapshotError: the disk refused.
    """
    with _create(path, state.history) as file:
        _save(file, "iter", np.array([state.iter], dtype=np.int32))
        _save_string(file, "learned_net", state.learned_net)
        _save(file, "current_step", np.array([state.current_step], dtype=np.int32))
        file.create_group("history")
        for index, array in enumerate(state.history):
            _save(file, f"history/{index}", array)


def read_state_hdf5(path: StrPath) -> StateArrays:
    """Solver state of a ``.solverstate.h5``.

    Raises:
        ParseError: missing, damaged, or laid out otherwise.
    """
    with _open(path) as file:
        for name in ("iter", "history"):
            if name not in file:
                raise _malformed(path, f"'{name}'", file)
        history = _load(file["history"])
        step = file.get("current_step")
        if any(array is None for array in history):
            raise _malformed(path, "a history without gaps", file["history"])
        learned_net = file["learned_net"][()] if "learned_net" in file else b""
        return StateArrays(
            iter=_integer(file["iter"]),
            learned_net=learned_net.decode().rstrip("\0"),
            current_step=0 if step is None else _integer(step),
            history=tuple(array for array in history if array is not None),
        )


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PoseidonError(
            "HDF5 files need the package h5py, which is not installed: "
            "`pip install poseidon-caffe[hdf5]` (or set snapshot_format: BINARYPROTO)"
        ) from error
    return h5py


@contextlib.contextmanager
def _create(path: StrPath, arrays: Sequence[Array | None]) -> Iterator[Any]:
    h5py = _h5py()
    wanted_bytes = sum(array.nbytes for array in arrays if array is not None)
    with atomic_path(path, wanted_bytes) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                yield file
        except (RuntimeError, ValueError, TypeError) as error:
            # h5py raises these where the library below it could not write.
            raise OSError(str(error)) from error


@contextlib.contextmanager
def _open(path: StrPath) -> Iterator[Any]:
    h5py = _h5py()
    name = os.fspath(path)
    try:
        with h5py.File(name, "r") as file:
            yield file
    except PoseidonError:
        raise
    except _DAMAGE as error:
        size = len(load(path, "HDF5 file"))  # says so if it is missing or a folder
        raise ParseError(
            f"{name}: not a whole HDF5 file of Caffe's: its {size} bytes are damaged, "
            f"cut off or laid out otherwise ({error})",
            path=name,
        ) from error


def _save(file: Any, name: str, array: Array) -> None:
    file.create_dataset(name, data=np.ascontiguousarray(array).reshape(array.shape))


def _save_string(file: Any, name: str, text: str) -> None:
    """A fixed-length string with its closing NUL, as C readers expect it."""
    h5py = _h5py()
    data = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space)
    dataset.write(space, space, np.array(data, dtype=f"S{len(data)}"), mtype=kind)


def _layer_groups(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Groups that stand for layers: all but those that only hold other groups.

    The layer ``a/b`` stands in the group ``b`` of ``a``, whether or not there is
    a layer ``a``.
    """
    for name, item in group.items():
        if _is_group(item):
            inner = [_is_group(each) for each in item.values()]
            if not inner or not all(inner):
                yield prefix + name, item
            yield from _layer_groups(item, f"{prefix}{name}/")


def _is_group(item: Any) -> bool:
    return hasattr(item, "items")


def _load(group: Any) -> tuple[Array | None, ...]:
    """Datasets ``0``, ``1``, ... of a group; None for those that are absent."""
    stored = {
        int(name): item
        for name, item in group.items()
        if name.isdigit() and not _is_group(item)
    }
    count = max(stored) + 1 if stored else 0
    if count > len(stored) + 1000:
        raise ValueError(f"a parameter numbered {count - 1}")
    return tuple(stored[i][()] if i in stored else None for i in range(count))


def _integer(dataset: Any) -> int:
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def _malformed(path: StrPath, wanted: str, group: Any) -> ParseError:
    found = ", ".join(sorted(group)) or "nothing"
    name = os.fspath(path)
    return ParseError(f"{name}: {wanted} is expected in it, found: {found}", path=name)
