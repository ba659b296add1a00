"""A solver's whole state to and from the files of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.solver.events import (
    HistoryRestored,
    Resumed,
    SnapshotWritten,
    Warned,
)
from poseidon_caffe.solver.resume import open_snapshot
from poseidon_caffe.solver.sidecar import FileMark, Sidecar
from poseidon_caffe.solver.snapshot import SnapshotPaths, write_snapshot
from poseidon_caffe.solver.state_file import StateFile

if TYPE_CHECKING:
    from poseidon_caffe.solver.solver import Solver

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(solver: Solver) -> SnapshotPaths:
    """Write a snapshot of ``solver``; see `Solver.snapshot`."""
    param, iteration = solver.param, solver.iteration
    is_hdf5 = param.snapshot_format == param.HDF5
    paths = SnapshotPaths.of(solver.prefix, iteration, is_hdf5=is_hdf5)
    if solver.shard.rank != 0:
        return paths
    state = StateFile(
        iteration=iteration,
        learned_net=paths.model,
        current_step=solver.schedule.current_step,
        history=solver.history.shaped(),
    )

    def sidecar(model_mark: FileMark, state_mark: FileMark) -> Sidecar:
        return Sidecar(
            iteration=iteration,
            model=model_mark,
            state=state_mark,
            train=solver.net.state(),
            tests=[net.state() for net in solver.test_nets],
            losses=solver.window.values(),
            seed=solver.seed,
            world=solver.shard.world,
        )

    write_snapshot(paths, solver.net, state, sidecar, write_diff=param.snapshot_diff)
    solver.emit(SnapshotWritten(iteration, paths.model, paths.state, is_hdf5))
    return paths


def load_checkpoint(solver: Solver, path: str) -> None:
    """Give ``solver`` the state of a snapshot; see `Solver.restore`."""
    found = open_snapshot(path)
    solver.history.check(found.state.history, path)
    if found.model is not None:
        solver.net.copy_trained_from(str(found.model))
    solver.history.load(found.state.history)
    solver.updater.refresh()
    solver.iteration = found.state.iteration
    solver.schedule.current_step = found.state.current_step
    solver.emit(HistoryRestored(solver.type))
    problem = _misfit(solver, found.sidecar)
    if not problem and found.sidecar is not None:
        _load_sidecar(solver, found.sidecar, path)
    if problem:
        message = (
            f"{path}: {problem}: data and random numbers start anew, so results will "
            "differ slightly from an unbroken run's"
        )
        solver.emit(Warned(message))
    solver.emit(Resumed(path, solver.iteration, exact=not problem))


def _load_sidecar(solver: Solver, sidecar: Sidecar, path: str) -> None:
    """Data positions, generators and the loss window."""
    try:
        solver.net.restore_state(sidecar.train)
        for net, state in zip(solver.test_nets, sidecar.tests, strict=False):
            net.restore_state(state)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: the sidecar does not fit the net: {error!r}"
        raise SnapshotError(msg) from error
    solver.seed = sidecar.seed
    solver.window.replace(sidecar.losses)
    solver.keep_window = True


def _misfit(solver: Solver, sidecar: Sidecar | None) -> str:
    """Why a sidecar cannot be used, "" when it can."""
    if sidecar is None:
        nets = (solver.net, *solver.test_nets)
        # Without data or random layers there is nothing that it could lack.
        lost = any(net.state() for net in nets)
        return "a bare Caffe snapshot, without the data position" if lost else ""
    if sidecar.world != solver.shard.world:
        return f"written by {sidecar.world} workers, now {solver.shard.world}"
    missing = sorted(set(solver.net.state()) - set(sidecar.train))
    if missing:
        return f"the sidecar knows nothing of layer {', '.join(missing)}"
    return ""
