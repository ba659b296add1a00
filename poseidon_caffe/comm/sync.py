"""What a solver asks of the other workers (`types.GradientSync`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.comm.agreement import Agreement
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.collecting import HistoryCollector
from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.gate import Gate
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.observer import ClusterObserver
from poseidon_caffe.comm.replicas import ReplicaCheck
from poseidon_caffe.comm.talk import Talk
from poseidon_caffe.types import Array, JsonObject

__all__ = ["ClusterSync"]


class ClusterSync:
    """The solver's side of the cluster; all calls from its thread.

    Args:
        board: among the workers.
        model: what is trained.
        gate: where to wait for values.
        observer: knows the iteration.
        agreement: combines requests.
        collector: brings histories to rank 0.
        replicas: compares the replicas now and then.
        norm: tells of clipped gradients, or None.
    """

    def __init__(
        self,
        board: Board,
        model: Model,
        gate: Gate,
        observer: ClusterObserver,
        agreement: Agreement,
        collector: HistoryCollector,
        replicas: ReplicaCheck,
        norm: NormBoard | None,
    ) -> None:
        self._board, self._model = board, model
        self._gate, self._observer = gate, observer
        self._agreement, self._collector = agreement, collector
        self._replicas, self._norm = replicas, norm
        self._talk = Talk(board, is_patient=observer.staleness > 0)

    def wait(self, slot: int) -> None:
        """Return once the slot holds every update of the iterations so far."""
        iteration = self._observer.iteration
        self._gate.enter(slot, iteration, iteration)
        # Every worker has come this far, so what was put off is known by now.
        self._tell_all()

    def updates_locally(self, slot: int) -> bool:
        """Never: owners of rows do, and the gate for factor slots."""
        return False

    def average(self, values: Array, then: Callable[[Array], None]) -> None:
        """Call ``then`` with the mean over workers on rank 0, maybe later."""
        self._talk.average(values, then)

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of arrays dealt round the workers, added in their order."""
        return self._talk.sum_in_order(values, count)

    def agree(self, requests: int) -> int:
        """All workers' requests of an earlier iteration; the same for all."""
        self._tell_clips()
        self._talk.tell_averages()
        if self._replicas.is_due(self._observer.iteration):
            for slot in self._model.slots:
                self.wait(slot.index)
            self._replicas.check()
        return self._agreement.agree(self._observer.iteration, requests)

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """Every worker's item (plain JSON) on rank 0."""
        return self._talk.gather(item)

    def collect_history(self) -> None:
        """Bring every row's history to rank 0's own arrays."""
        self._collector.collect()

    def finish(self) -> None:
        """Return once nothing of any worker's is under way; the last call."""
        for slot in self._model.slots:
            self.wait(slot.index)
        self._tell_all()
        self._talk.end()

    def _tell_all(self) -> None:
        self._talk.finish()
        self._await_norm()
        self._tell_clips()

    def _await_norm(self) -> None:
        """Hear the last norm: the values may have come before all its parts."""
        norm, iteration = self._norm, self._observer.iteration
        if norm is not None:
            what = Waiting("the norm of the last gradient")
            self._board.courier.wait_for(lambda: norm.clock >= iteration, what)

    def _tell_clips(self) -> None:
        if self._norm is None:
            return
        while self._norm.events:
            event = self._norm.events.pop(0)
            if self._model.on_clip is not None:
                self._model.on_clip(*event)
