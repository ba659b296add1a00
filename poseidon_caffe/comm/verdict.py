"""What all workers found of an iteration's gradients: may they be applied?

With scaled losses (float16) a gradient may overflow on one worker alone.  So no update
of an iteration is made before every worker has said that its own did not; where one
did, all ranks leave the whole iteration out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.tags import VERDICT
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["Verdict", "VerdictBoard"]


@dataclass(frozen=True)
class Verdict:
    """Of one iteration's gradients, over all workers.

    Attributes:
        factor: in all of them.
        overflowed: one of them is no finite number, so none is applied.
    """

    factor: float
    overflowed: bool

    def squares(self, scaled: float) -> float:
        """A sum of the gradients' squares without the factor; 0 if none counts."""
        return 0.0 if self.overflowed else scaled / self.factor**2


class VerdictBoard:
    """Gathers every worker's report of each iteration on every rank.

    Args:
        courier: the rank's.
        roles: of this rank.
        clock: the first iteration.
        staleness: how many iterations workers may be apart.

    Attributes:
        newest: the last iteration that is judged, all before it too.
        on_known: called in the courier's thread at each new verdict, for the server
            here.
    """

    def __init__(
        self, courier: Courier, roles: Roles, clock: int, staleness: int
    ) -> None:
        self._courier, self._roles = courier, roles
        self.newest = clock - 1
        self.on_known: Callable[[], None] | None = None
        # Nobody asks for older ones: a worker is no further ahead of its values.
        self._kept = staleness + 2
        self._verdicts: dict[int, Verdict] = {}
        self._reports: defaultdict[int, dict[int, Array]] = defaultdict(dict)

    def open(self) -> None:
        """Post the first receives; courier's thread."""
        for worker in self._roles.workers:
            if worker != self._roles.rank:
                self._receive(worker)

    def report(self, clock: int, factor: float, *, overflowed: bool) -> None:
        """Tell all ranks of this worker's gradients; courier's thread."""
        message = np.array([clock, factor, overflowed], np.float64)
        for peer in {*self._roles.workers, *self._roles.servers}:
            if peer != self._roles.rank:
                self._courier.send(peer, VERDICT, message, label="overflow")
        self._take(self._roles.rank, message)

    def is_known(self, clock: int) -> bool:
        """Whether the iteration is judged; any thread."""
        return self.newest >= clock

    def of(self, clock: int) -> Verdict:
        """The verdict on a recent iteration that is judged; any thread."""
        return self._verdicts[clock]

    # -- courier's thread --------------------------------------------------------------
    def _receive(self, worker: int) -> None:
        message = np.empty(3, np.float64)

        def arrived() -> None:
            self._receive(worker)
            self._take(worker, message)

        self._courier.receive(worker, VERDICT, message, arrived, label="overflow")

    def _take(self, worker: int, message: Array) -> None:
        self._reports[int(message[0])][worker] = message
        while len(self._reports[self.newest + 1]) == len(self._roles.workers):
            self._judge(self.newest + 1)

    def _judge(self, clock: int) -> None:
        reports = self._reports.pop(clock)
        factors = {float(message[1]) for message in reports.values()}
        if len(factors) > 1:
            raise ClusterError(
                f"the workers' loss scales differ in iteration {clock}: "
                f"{sorted(factors)}"
            )
        overflowed = any(message[2] for message in reports.values())
        self._verdicts[clock] = Verdict(factors.pop(), overflowed)
        self._verdicts.pop(clock - self._kept, None)
        self.newest = clock
        if self.on_known is not None:
            self.on_known()
