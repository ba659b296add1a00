"""Caffe's solver state on disk: ``.solverstate`` and ``.solverstate.h5``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poseidon_caffe.errors import ParseError, SnapshotError
from poseidon_caffe.schema.binary import read_binary, write_state
from poseidon_caffe.schema.hdf5 import (
    StateArrays,
    read_state_hdf5,
    write_state_hdf5,
)
from poseidon_caffe.schema.messages import SolverState
from poseidon_caffe.schema.wire import blob_to_array
from poseidon_caffe.types import Array

__all__ = ["StateFile", "read_state_file", "refuse_weights", "write_state_file"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class StateFile:
    """What a solverstate holds.

    Attributes:
        iteration: iterations done.
        learned_net: path of the weights as the writer saw it, or "".
        current_step: steps of the learning-rate policy.
        history: the rule's arrays in their parameters' shapes.
    """

    iteration: int
    learned_net: str
    current_step: int
    history: Sequence[Array]


def write_state_file(path: Path, state: StateFile, *, is_hdf5: bool) -> None:
    """Write ``state`` whole or not at all.

    Raises:
        SnapshotError: the disk refused, or h5py is missing.
    """
    if is_hdf5:
        arrays = StateArrays(
            state.iteration,
            state.learned_net,
            state.current_step,
            tuple(state.history),
        )
        write_state_hdf5(path, arrays)
        return
    message = SolverState(
        iter=state.iteration,
        learned_net=state.learned_net,
        current_step=state.current_step,
    )
    write_state(path, message, state.history)


def read_state_file(path: Path) -> StateFile:
    """The state in a file; its contents tell which of the two forms it has.

    Raises:
        SnapshotError: missing, truncated, or no solver state.
    """
    refuse_weights(path)
    try:
        with path.open("rb") as file:
            is_hdf5 = file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC
    except OSError as error:
        msg = f"{path}: cannot read this solver state: {error.strerror}"
        raise SnapshotError(msg) from error
    return _read_hdf5(path) if is_hdf5 else _read_binary(path)


def refuse_weights(path: Path) -> None:
    """Raise SnapshotError for a .caffemodel, which people pass by mistake."""
    if path.name.endswith((".caffemodel", ".caffemodel.h5")):
        near = path.with_name(path.name.replace(".caffemodel", ".solverstate"))
        there = near.name if near.exists() else "a .solverstate file"
        msg = (
            f"{path}: this holds weights, not a solver state; resume from {there}, "
            f"or start anew from these weights with --weights {path}"
        )
        raise SnapshotError(msg)


def _read_binary(path: Path) -> StateFile:
    try:
        message = read_binary(path, SolverState)
    except ParseError as error:
        raise SnapshotError(str(error)) from error
    if not message.HasField("iter"):
        msg = f"{path}: this is no solver state, or a cut-off one: it has no iteration"
        raise SnapshotError(msg)
    return StateFile(
        iteration=message.iter,
        learned_net=message.learned_net,
        current_step=message.current_step,
        history=[blob_to_array(blob) for blob in message.history],
    )


def _read_hdf5(path: Path) -> StateFile:
    try:
        found = read_state_hdf5(path)
    except ParseError as error:
        raise SnapshotError(str(error)) from error
    return StateFile(
        found.iter, found.learned_net, found.current_step, list(found.history)
    )
