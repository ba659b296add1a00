"""Wait-free backpropagation: what the net's progress sets in motion (DWBP)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from poseidon_caffe.comm.client import RowClient
from poseidon_caffe.comm.factors import FactorExchange
from poseidon_caffe.comm.gate import Gate
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.scaling import ScaleFollower
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.net.hooks import Event, ParamSlot

__all__ = ["ClusterObserver"]


class ClusterObserver:
    """Sends each row when its gradients are complete; waits before each forward.

    Args:
        model: what is trained.
        rows: all rows.
        client: sends and receives them.
        factors: the slots that travel as factors.
        gate: where to wait.
        settings: staleness and overlap.
        beat: told (iteration, layer) at each layer, as a sign of life.
        follower: of the factor in gradients, or None.

    Attributes:
        iteration: the one under way, or the next.
        staleness: how many iterations it may be ahead of the slowest worker.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[Row],
        client: RowClient,
        factors: FactorExchange,
        gate: Gate,
        settings: ClusterSettings,
        beat: Callable[[int, int], None],
        follower: ScaleFollower | None = None,
    ) -> None:
        self.iteration = self._first = model.iteration
        self._rows, self._client, self._factors = rows, client, factors
        self._gate, self._beat, self._follower = gate, beat, follower
        self.staleness, self._overlap = settings.staleness, settings.overlap
        self._slots_of: defaultdict[int, list[int]] = defaultdict(list)
        for slot in model.slots:
            for layer in slot.readers:
                self._slots_of[layer].append(slot.index)
        self._all_slots = [slot.index for slot in model.slots]
        self._slots_in = [
            list(dict.fromkeys(piece.slot for piece in row.pieces)) for row in rows
        ]
        self._missing = [len(slots) for slots in self._slots_in]
        self._carrier = model.carrier
        self._held: list[int] = []
        self._held_factors: list[ParamSlot] = []

    def before_forward(self, layer: int) -> None:
        """Wait until the layer's parameters are as new as they must be."""
        self._beat(self.iteration, layer)
        needed = max(self.iteration - self.staleness, self._first)
        for slot in self._slots_of.get(layer, ()):
            self._gate.enter(slot, needed, self.iteration)

    def grad_ready(self, slot: ParamSlot, event: Event) -> None:
        """Send what the slot completes."""
        event.wait()
        self._beat(self.iteration, slot.ready_after)
        if slot.index in self._factors:
            self._factors.push(slot)
            self._held_factors.append(slot)
            if self._overlap:
                self._send_factors()
            return
        rows = self._gate.rows_of(slot.index)
        if rows:
            self._carrier.fetch(slot)
        for row in rows:
            self._missing[row] -= 1
            if not self._missing[row]:
                self._missing[row] = len(self._slots_in[row])
                self._complete(row)

    def factors_ready(self, slot: ParamSlot) -> None:
        """Keep the factors of one of several passes."""
        if slot.index in self._factors:
            self._factors.push(slot)

    def backward_done(self) -> None:
        """The iteration's gradients are all on their way."""
        if self._follower is not None:
            self._follower.report(self.iteration)
        self.iteration += 1
        if self._overlap:
            return
        for row in self._held:
            self._push(row)
        self._held.clear()
        self._send_factors()
        needed = max(self.iteration - self.staleness, self._first)
        for slot in self._all_slots:
            self._gate.enter(slot, needed, self.iteration)

    def _send_factors(self) -> None:
        for slot in self._held_factors:
            self._factors.send(slot)
        self._held_factors.clear()

    def _complete(self, row: int) -> None:
        if self._overlap:
            self._push(row)
        else:
            self._held.append(row)

    def _push(self, row: int) -> None:
        self._carrier.then(self._slots_in[row], lambda: self._client.push(row))
