"""How a server's new values reach the workers under BSP: from the master itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.memory import RowMemory
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.tags import values_tag
from poseidon_caffe.types import Array

__all__ = ["DirectDelivery"]

Own = Callable[[int, int, "Array | None"], None]
"""(row, version, values): tells the worker beside the server."""


class DirectDelivery:
    """The parameter's own memory is the master; values are sent from there.

    No send is still reading it when the next clock changes it: by then every worker
    has sent a gradient that it computed from the values it received.
    """

    receives_ahead = False

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        model: Model,
        roles: Roles,
        own: Own | None,
    ) -> None:
        self._courier, self._roles, self._own = courier, roles, own
        self._labels = {row.index: model.label(row) for row in rows}
        self._memory = {
            row.index: RowMemory(row, model.blobs)
            for row in rows
            if row.owner == roles.rank
        }
        self._buffers: dict[tuple[int, int], Array] = {}

    def master(self, row: Row) -> list[Array]:
        """The parameters' memory."""
        return self._memory[row.index].data

    def buffer(self, row: Row, worker: int) -> Array:
        """One array a row and worker, the same every time."""
        key = (row.index, worker)
        if key not in self._buffers:
            self._buffers[key] = np.empty(row.count, row.dtype)
        return self._buffers[key]

    def free(self, row: Row, buffer: Array) -> None:
        """Nothing: it is received into again when the clock is over."""

    def deliver(self, row: Row, version: int) -> None:
        """Send the values; the worker here has them already."""
        values = self._memory[row.index].values()
        for worker in self._roles.workers:
            if worker == self._roles.rank:
                assert self._own is not None
                self._own(row.index, version, None)
                continue
            self._courier.send(
                worker,
                values_tag(row.index),
                values,
                priority=row.priority,
                label=self._labels[row.index],
            )
