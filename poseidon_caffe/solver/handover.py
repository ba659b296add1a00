"""How all workers begin alike: rank 0 has read weights and snapshot for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from poseidon_caffe.errors import ClusterError
from poseidon_caffe.solver.sidecar import plain_json
from poseidon_caffe.solver.worker_state import (
    WorkerState,
    apply_shared,
    apply_worker,
    capture,
)
from poseidon_caffe.types import Array, JsonObject

if TYPE_CHECKING:
    from poseidon_caffe.solver.solver import Solver

__all__ = ["Handover", "export_start", "import_start", "start_arrays"]


@dataclass(frozen=True)
class Handover:
    """A solver's start.

    Attributes:
        meta: small values, plain JSON.
        arrays: see `start_arrays`.
    """

    meta: JsonObject
    arrays: list[Array]


def start_arrays(solver: Solver, *, with_history: bool = True) -> list[Array]:
    """The parameters, then the history, flat and live, in the same order everywhere.

    NumPy arrays on every backend, live until the net runs.

    A worker may receive rank 0's values into them at once: `import_start` sees when
    it is given its own arrays.

    Args:
        solver: whose they are.
        with_history: ``meta["has_history"]``: a history of zeros is not handed over,
            and the pages that it would fill stay untouched.
    """
    values = [blob.mutable_cpu_data.reshape(-1) for blob in solver.net.learnable]
    if not with_history:
        return values
    return values + [array.reshape(-1) for array in solver.history.shaped(write=True)]


def export_start(solver: Solver) -> Handover:
    """Rank 0's start for all; call it before training, after `Solver.restore` if any.

    Nothing is copied: send the arrays before the solver changes them.
    """
    slots = solver.net.slots
    has_history = not all(solver.history.is_zero(slot.index) for slot in slots)
    meta = {
        "has_history": has_history,
        "history_count": solver.rule.history_count,
        "iteration": solver.iteration,
        "current_step": solver.schedule.current_step,
        "seed": solver.seed,
        "keep_window": solver.keep_window,
        "dealt": solver.tester.dealt,
        # All workers' after a resume with as many as there were, else only this one's.
        "workers": [
            worker.to_json() for worker in solver.resumed_workers or [capture(solver)]
        ],
    }
    return Handover(plain_json(meta), start_arrays(solver, with_history=has_history))


def import_start(solver: Solver, start: Handover) -> None:
    """Begin as rank 0 does, with this worker's own part of a resumed state.

    Raises:
        ClusterError: the nets or solvers of the two ranks differ.
    """
    own = start_arrays(solver, with_history=start.meta["has_history"])
    _check(solver, own, start)
    for mine, theirs in zip(own, start.arrays, strict=True):
        if mine.ctypes.data != theirs.ctypes.data:
            np.copyto(mine, theirs)
    for blob in solver.net.learnable:
        blob.touch()
    solver.updater.refresh()
    meta = start.meta
    solver.iteration = meta["iteration"]
    solver.schedule.current_step = meta["current_step"]
    solver.seed, solver.keep_window = meta["seed"], meta["keep_window"]
    solver.tester.dealt = list(meta["dealt"])
    workers = [WorkerState(**worker) for worker in meta["workers"]]
    if len(workers) == solver.shard.world:
        apply_worker(solver, workers[solver.shard.rank])
    else:
        apply_shared(solver, workers[0], workers[0].losses)


def _check(solver: Solver, own: list[Array], start: Handover) -> None:
    """Raise ClusterError unless the arrays are of one solver."""
    mine, theirs = (
        [(a.size, a.dtype.name) for a in arrays] for arrays in (own, start.arrays)
    )
    if start.meta["history_count"] != solver.rule.history_count:
        msg = (
            f"rank {solver.shard.rank} has another net or solver than rank 0: "
            f"{solver.rule.history_count} histories a parameter, not "
            f"{start.meta['history_count']}; start all ranks with the same files"
        )
        raise ClusterError(msg)
    if mine == theirs:
        return
    place = next(
        (
            i
            for i, pair in enumerate(zip(mine, theirs, strict=False))
            if len({*pair}) > 1
        ),
        min(len(mine), len(theirs)),
    )
    msg = (
        f"rank {solver.shard.rank} has another net or solver than rank 0: "
        f"{len(mine)} arrays of parameters and history, not {len(theirs)}; the first "
        f"to differ is array {place}; start all ranks with the same files"
    )
    raise ClusterError(msg)
