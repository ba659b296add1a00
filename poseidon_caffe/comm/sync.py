"""What a solver asks of the other workers (`types.GradientSync`)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.agreement import Agreement
from poseidon_caffe.comm.board import Board, Gathering
from poseidon_caffe.comm.collecting import HistoryCollector
from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.gate import Gate
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.observer import ClusterObserver
from poseidon_caffe.comm.replicas import ReplicaCheck
from poseidon_caffe.types import Array, JsonObject

__all__ = ["ClusterSync"]

_AVERAGE, _SCORES, _TOTAL, _STATES, _END = range(5)


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
        self._later: deque[tuple[Gathering, Callable[[Array], None]]] = deque()

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
        own = np.asarray(values, np.float64)
        round_ = self._board.start_gather(_AVERAGE, own.tobytes())
        if round_ is None:
            then(own)
            return
        self._later.append((round_, then))
        if not self._observer.staleness:
            self._board.finish(round_)
        self._tell_averages()

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of arrays dealt round the workers, added in their order."""
        own = [np.asarray(value, np.float64) for value in values]
        sizes = np.array([len(own), *(value.size for value in own)], np.int64)
        payload = sizes.tobytes() + b"".join(value.tobytes() for value in own)
        found = self._board.gather(_SCORES, payload)
        total = None if found is None else _sum(found, count).tobytes()
        return np.frombuffer(self._board.broadcast(_TOTAL, total), np.float64).copy()

    def agree(self, requests: int) -> int:
        """All workers' requests of an earlier iteration; the same for all."""
        self._tell_clips()
        self._tell_averages()
        if self._replicas.is_due(self._observer.iteration):
            for slot in self._model.slots:
                self.wait(slot.index)
            self._replicas.check()
        return self._agreement.agree(self._observer.iteration, requests)

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """Every worker's item (plain JSON) on rank 0."""
        found = self._board.gather(_STATES, json.dumps(item).encode())
        return None if found is None else [json.loads(text) for text in found]

    def collect_history(self) -> None:
        """Bring every row's history to rank 0's own arrays."""
        self._collector.collect()

    def finish(self) -> None:
        """Return once nothing of any worker's is under way; the last call."""
        for slot in self._model.slots:
            self.wait(slot.index)
        self._tell_all()
        self._board.barrier(_END)

    def _tell_all(self) -> None:
        for round_, _ in self._later:
            self._board.finish(round_)
        self._tell_averages()
        self._await_norm()
        self._tell_clips()

    def _await_norm(self) -> None:
        """Hear the last norm: the values may have come before all its parts."""
        norm, iteration = self._norm, self._observer.iteration
        if norm is not None:
            what = Waiting("the norm of the last gradient")
            self._board.courier.wait_for(lambda: norm.clock >= iteration, what)

    def _tell_averages(self) -> None:
        while self._later and self._later[0][0].done():
            round_, then = self._later.popleft()
            values = [np.frombuffer(each, np.float64) for each in round_.result()]
            size = min(value.size for value in values)
            then(np.mean([value[:size] for value in values], axis=0))

    def _tell_clips(self) -> None:
        if self._norm is None:
            return
        while self._norm.events:
            event = self._norm.events.pop(0)
            if self._model.on_clip is not None:
                self._model.on_clip(*event)


def _sum(payloads: Sequence[bytes], count: int) -> Array:
    """Add the arrays in the order in which they were dealt.

    Where they differ in size each counts as far as the first reaches, as in a test
    in one process.
    """
    dealt = [_split(payload) for payload in payloads]
    total: Array | None = None
    for k in range(count):
        value = dealt[k % len(dealt)][k // len(dealt)]
        total = value if total is None else total[: value.size] + value[: total.size]
    return np.zeros(0) if total is None else total


def _split(payload: bytes) -> list[Array]:
    count = int(np.frombuffer(payload, np.int64, 1)[0])
    sizes = np.frombuffer(payload, np.int64, count, 8)
    values, at = [], 8 * (count + 1)
    for size in sizes:
        values.append(np.frombuffer(payload, np.float64, int(size), at))
        at += 8 * int(size)
    return values
