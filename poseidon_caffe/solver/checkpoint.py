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
from poseidon_caffe.solver.sidecar import FileMark, Sidecar, plain_json
from poseidon_caffe.solver.snapshot import SnapshotPaths, write_snapshot
from poseidon_caffe.solver.state_file import StateFile
from poseidon_caffe.solver.worker_state import (
    WorkerState,
    apply_shared,
    apply_worker,
    capture,
    mean_losses,
)

if TYPE_CHECKING:
    from poseidon_caffe.solver.solver import Solver

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(solver: Solver) -> SnapshotPaths:
    """Write a snapshot of ``solver``; see `Solver.snapshot`.

    Every worker must call this: rank 0 writes what all of them give.
    """
    param, iteration = solver.param, solver.iteration
    is_hdf5 = param.snapshot_format == param.HDF5
    paths = SnapshotPaths.of(solver.prefix, iteration, is_hdf5=is_hdf5)
    workers = solver.sync.gather(plain_json(capture(solver).to_json()))
    solver.sync.collect_history()
    if solver.shard.rank != 0 or workers is None:
        return paths
    states = [WorkerState(**worker) for worker in workers]
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
            workers=states,
            dealt=list(solver.tester.dealt),
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
    problem = _take_sidecar(solver, found.sidecar, path)
    if problem:
        said = f"{path}: {problem}, so results will differ slightly from an unbroken "
        solver.emit(Warned(said + "run's"))
    solver.emit(Resumed(path, solver.iteration, exact=not problem))


_ANEW = "data and random numbers start anew"


def _take_sidecar(solver: Solver, sidecar: Sidecar | None, path: str) -> str:
    """Go on as the sidecar says; what cannot be exact then, "" when all is."""
    solver.resumed_workers = []
    if sidecar is None:
        nets = (solver.net, *solver.test_nets)
        # Without data or random layers there is nothing that it could lack.
        lost = any(net.state() for net in nets)
        return f"a bare Caffe snapshot, without the data position: {_ANEW}" * lost
    missing = sorted(set(solver.net.state()) - set(sidecar.workers[0].train))
    if missing:
        return f"the sidecar knows nothing of layer {', '.join(missing)}: {_ANEW}"
    try:
        problem = _restore_workers(solver, sidecar)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: the sidecar does not fit the net: {error!r}"
        raise SnapshotError(msg) from error
    solver.seed = sidecar.seed
    solver.keep_window = True
    # Test nets may have come or gone since.
    known = dict(enumerate(sidecar.dealt))
    solver.tester.dealt = [known.get(i, 0) for i in range(len(solver.test_nets))]
    return problem


def _restore_workers(solver: Solver, sidecar: Sidecar) -> str:
    """Data positions, generators and the loss window, as far as they are known."""
    workers, shard = sidecar.workers, solver.shard
    if sidecar.world == len(workers) == shard.world:
        apply_worker(solver, workers[shard.rank])
        solver.resumed_workers = workers
        return ""
    left = apply_shared(solver, workers[0], mean_losses(workers))
    noun = "worker" if sidecar.world == 1 else "workers"
    names = f" (layers {', '.join(left)})" if left else ""
    return (
        f"written by {sidecar.world} {noun}, now {shard.world}: data go on at the "
        f"same record, but what each worker has of its own starts anew{names}"
    )
