"""Training without parameter servers: every GPU of one machine has all means itself.

Each gradient's mean over the ranks is begun as soon as backward has made it, while
backward goes on; the solver waits for the means on the device, and then every rank
takes the same step with the same kernels as a process alone would.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poseidon_caffe.backend.protocols import Moment, Reducer
from poseidon_caffe.comm.agreement import Agreement
from poseidon_caffe.comm.carrier import ParamBlob
from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.plan import Plan
from poseidon_caffe.comm.talk import Talk
from poseidon_caffe.comm.traffic import Traffic
from poseidon_caffe.net.hooks import Event, ParamSlot
from poseidon_caffe.types import Array, JsonObject

__all__ = ["NcclObserver", "NcclSync", "ReducedModel", "ReducingAttachment"]

_ATTACHED = 38
# GPUs that are about to be done are asked again and again; those of a rank that is
# late, as the courier does it.
_SPIN_S = 0.1


@dataclass(frozen=True)
class ReducedModel:
    """What all ranks train alike.

    Attributes:
        slots: the learnable parameters.
        blobs: their memory on the GPU, by slot index.
        iteration: the one that comes next.
        still: slots whose gradients (or statistics) need no mean, by index.
    """

    slots: Sequence[ParamSlot]
    blobs: Sequence[ParamBlob]
    iteration: int = 0
    still: frozenset[int] = frozenset()


class NcclSync:
    """`types.GradientSync` by means that the GPUs make.

    Args:
        model: what is trained.
        reducer: makes the means.
        talk: with the other workers.
        agreement: combines requests.
        courier: the rank's.

    Attributes:
        iteration: the one under way, or the next.
    """

    def __init__(
        self,
        model: ReducedModel,
        reducer: Reducer,
        talk: Talk,
        agreement: Agreement,
        courier: Courier,
    ) -> None:
        self.iteration = model.iteration
        self._model, self._reducer = model, reducer
        self._talk, self._agreement, self._courier = talk, agreement, courier
        self._pending: dict[int, Moment] = {}
        #: Of the mean begun last, which is there last.
        self._last: Moment | None = None

    def reduce(self, slot: ParamSlot) -> None:
        """Begin the mean of a slot's gradient, or of its statistics."""
        if slot.index in self._model.still:
            return
        blob = self._model.blobs[slot.index]
        array = blob.data if slot.statistics else blob.diff
        self._last = self._reducer.mean(array.reshape(-1))
        self._pending[slot.index] = self._last
        if slot.statistics:
            blob.touch()

    def wait(self, slot: int) -> None:
        """Let what is done with the slot from now on come after its mean."""
        moment = self._pending.pop(slot, None)
        if moment is not None:
            self._reducer.hold(moment)

    def updates_locally(self, slot: int) -> bool:
        """Always: every rank takes the same step."""
        return True

    def average(self, values: Array, then: Callable[[Array], None]) -> None:
        """Call ``then`` with the mean over workers on rank 0."""
        self._talk.average(values, then)

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of arrays dealt round the workers, added in their order."""
        return self._talk.sum_in_order(values, count)

    def agree(self, requests: int) -> int:
        """All workers' requests of an earlier iteration; the same for all.

        Returns when all means are there.  Whoever waits for a GPU cannot be told that
        another rank is lost; so nobody shall, for what a rank may never begin.  The
        update that was given before keeps the GPU busy meanwhile.
        """
        self._await_means()
        return self._agreement.agree(self.iteration, requests)

    def _await_means(self) -> None:
        """Return once all means begun are there.

        Raises:
            PoseidonError: another rank is lost, or does not go on.
        """
        last, self._last = self._last, None
        end_s = time.monotonic() + _SPIN_S
        while last is not None and not last.done():
            if time.monotonic() < end_s:
                time.sleep(0)  # lets the other threads work
                continue
            there = threading.Event()
            self._courier.when(last.done, there.set)
            what = Waiting(f"the GPUs' means of iteration {self.iteration - 1}")
            self._courier.wait_for(there.is_set, what)
            return

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """Every worker's item (plain JSON) on rank 0."""
        return self._talk.gather(item)

    def collect_history(self) -> None:
        """Rank 0 has all of it, as every rank has."""

    def finish(self) -> None:
        """Return once nothing of any worker's is under way; the last call."""
        for slot in self._model.slots:
            self.wait(slot.index)
        self._talk.finish()
        self._reducer.close()
        self._talk.end()


class NcclObserver:
    """`NetObserver` that begins each mean when its gradient is complete.

    Args:
        model: what is trained.
        sync: makes the means.
        beat: told (iteration, layer) at each layer, as a sign of life.
    """

    def __init__(
        self, model: ReducedModel, sync: NcclSync, beat: Callable[[int, int], None]
    ) -> None:
        self._sync, self._beat = sync, beat
        self._slots_of: defaultdict[int, list[int]] = defaultdict(list)
        for slot in model.slots:
            for layer in slot.readers:
                self._slots_of[layer].append(slot.index)

    def before_forward(self, layer: int) -> None:
        """Statistics come after their mean; all else the solver has waited for."""
        self._beat(self._sync.iteration, layer)
        for slot in self._slots_of.get(layer, ()):
            self._sync.wait(slot)

    def grad_ready(self, slot: ParamSlot, event: Event) -> None:
        """Begin the slot's mean."""
        event.wait()
        self._beat(self._sync.iteration, slot.ready_after)
        self._sync.reduce(slot)

    def factors_ready(self, slot: ParamSlot) -> None:
        """Gradients are summed over passes where they are made."""

    def backward_done(self) -> None:
        """The iteration's means are all begun."""
        self._sync.iteration += 1


class ReducingAttachment:
    """A model being trained on this rank; see `cluster.Attachment`.

    Args:
        cluster: of workers alone.
        model: whose values are the same on every rank.
        reducer: among all ranks.

    Attributes:
        plan: nothing travels by rows or factors.
        traffic: counts the bytes of messages, which are control.
        observer, sync: for the net and the solver.
    """

    def __init__(self, cluster: Cluster, model: ReducedModel, reducer: Reducer) -> None:
        courier, roles = cluster.courier, cluster.roles
        self.plan = Plan((), (), ())
        self.traffic = Traffic((), (), model.slots, roles)
        courier.traffic = self.traffic
        agreement = Agreement(courier, roles, 1, model.iteration)
        talk = Talk(cluster.workers_board, is_patient=False)
        self.sync = NcclSync(model, reducer, talk, agreement, courier)
        self.observer = NcclObserver(model, self.sync, cluster.watchman.beat)
        courier.call(agreement.open)
        cluster.board.barrier(_ATTACHED)
