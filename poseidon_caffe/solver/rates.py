"""Learning rates by iteration, for those who need them out of order."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from poseidon_caffe.errors import SolverError
from poseidon_caffe.solver.schedule import ScheduleState, learning_rate

__all__ = ["RateTable"]

#: How far behind the newest iteration one may ask; no staleness comes near it.
_KEPT_ITERS = 4096


class RateTable:
    """The global rate of any iteration from ``iteration`` on.

    ``multistep`` counts its steps from iteration to iteration, so the iterations in
    between are gone through, each once; rows of a cluster may then ask for them in
    any order, as bounded staleness makes them.

    Args:
        param: the SolverParameter; it must not change.
        iteration: the first whose rate may be asked.
        current_step: the schedule's state before it.
    """

    def __init__(self, param: Any, iteration: int, current_step: int) -> None:
        self._param = param
        self._state = ScheduleState(current_step)
        self._next = iteration
        self._rates: OrderedDict[int, float] = OrderedDict()

    def rate(self, iteration: int) -> float:
        """The rate of ``iteration``, before any ``lr_mult``.

        Raises:
            SolverError: the iteration is before the first or long past, or its rate
                is no finite number.
        """
        while self._next <= iteration:
            rate = learning_rate(self._param, self._next, self._state)
            self._rates[self._next] = rate
            self._next += 1
            if len(self._rates) > _KEPT_ITERS:
                self._rates.popitem(last=False)
        found = self._rates.get(iteration)
        if found is None:
            msg = (
                f"the learning rate of iteration {iteration} is asked for, but only "
                f"those from {next(iter(self._rates), self._next)} on are known: an "
                "update came too late, or was made before the start was agreed upon"
            )
            raise SolverError(msg)
        return found
