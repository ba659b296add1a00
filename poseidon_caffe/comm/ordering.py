"""Which of several waiting rows leaves first (Bösen's update sort policies)."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.comm.memory import RowMemory
from poseidon_caffe.comm.settings import SORT_POLICIES
from poseidon_caffe.errors import ClusterError

__all__ = ["SendOrder"]

_SCALE = 1 << 30
_SEED = 2017


class SendOrder:
    """Priorities of gradients under bounded staleness; smaller leaves first.

    FixedOrder: forward order, as BSP has it.  FIFO: as they became ready.  Random:
    drawn.  RelativeMagnitude: first those whose gradient is largest beside the values
    (section 4.2 of the Bösen paper, "Managed Communication and Consistency for Fast
    Data-Parallel Iterative Analytics", SoCC 2015).

    Args:
        policy: one of `settings.SORT_POLICIES`.

    Raises:
        ClusterError: an unknown policy.
    """

    def __init__(self, policy: str) -> None:
        if policy not in SORT_POLICIES:
            known = ", ".join(SORT_POLICIES)
            msg = f'update_sort_policy "{policy}" is unknown (known: {known})'
            raise ClusterError(msg)
        self._policy = policy
        self._generator = np.random.default_rng(_SEED)

    def priority(self, memory: RowMemory) -> int:
        """The priority of a row's gradient that is about to be sent."""
        if self._policy == "FIFO":
            return 0
        if self._policy == "Random":
            return int(self._generator.integers(_SCALE))
        if self._policy == "RelativeMagnitude":
            return _by_magnitude(memory)
        return memory.row.priority


def _by_magnitude(memory: RowMemory) -> int:
    """Minus the ratio of the gradient's to the values' sum of magnitudes."""
    gradient = sum(float(np.abs(part).sum()) for part in memory.sources)
    values = sum(float(np.abs(part).sum()) for part in memory.data)
    ratio = gradient / values if values else float(gradient > 0)
    return -int(min(ratio, 1.0) * _SCALE) if np.isfinite(ratio) else 0
