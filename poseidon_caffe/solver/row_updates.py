"""The solver's update of any stretch of its parameters, for a cluster's servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.solver.rates import RateTable
from poseidon_caffe.solver.update import segment_of
from poseidon_caffe.types import Array, RowPiece, UpdateStep

if TYPE_CHECKING:
    from poseidon_caffe.solver.solver import Solver

__all__ = ["SolverRowUpdater"]


class SolverRowUpdater:
    """`RowUpdater` of one solver; make it when the start state is in place.

    Mostly it works on this machine's arrays, also where the net trains on a GPU.

    A solver may have several: they share the rule, which keeps scratch memory by
    thread, and the history, of which each row has one owner.  ``ops`` should be the
    updater's own and, for the CPU backend, be made in the thread that calls `apply`:
    OpenMP's number of threads belongs to the thread that sets it.

    Args:
        solver: whose rule, rates (from its present iteration on) and history.
        ops: runs the update, on arrays of its memory.
    """

    def __init__(self, solver: Solver, ops: Ops) -> None:
        self.history_count: int = solver.rule.history_count
        self._param, self._slots = solver.param, solver.net.slots
        self._rule, self._history, self._ops = solver.rule, solver.history, ops
        self._on_host = ops.memory.is_host
        self._rates = RateTable(
            solver.param, solver.iteration, solver.schedule.current_step
        )

    def history_of(self, slot: int) -> tuple[Array, ...]:
        """The solver's own history arrays of one parameter: flat, live.

        Where ``ops`` wants them: NumPy arrays stay on the host from then on.
        """
        if not self._on_host:
            return self._history.of(slot)
        self._history.keep_on_host(slot)
        return self._history.host_of(slot)

    @np.errstate(all="ignore")  # as in the solver: overflow shows in the loss
    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        """Apply the rule of ``iteration`` once; see `RowUpdater.apply`.

        Iterations may be asked in any order, each for any number of pieces.

        Raises:
            SolverError: the iteration lies before the start or long ago.
        """
        step = UpdateStep(self._rates.rate(iteration), iteration)
        segments = [
            segment_of(
                self._param,
                self._slots[piece.slot],
                step.rate,
                scale,
                (piece.data, piece.diff, piece.history),
            )
            for piece in pieces
        ]
        self._ops.update(self._rule, step, segments)
