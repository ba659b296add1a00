"""A worker's side of the rows under BSP: send gradients, receive values in place.

No copies: a row of one piece leaves from the gradient's memory and its new values
arrive in the parameter's.  That is safe, since an owner sends values only after it has
all gradients of the clock, and a gradient is sent only when no step of the backward
pass reads the row's values any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.memory import RowMemory
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.tags import gradient_tag, values_tag
from poseidon_caffe.types import Array

__all__ = ["DirectClient", "RowClient"]

Contribute = Callable[[int, Array], None]
"""(row, gradient): hands this worker's own rows to the server beside it."""


class RowClient(Protocol):
    """What a worker does with rows; versions count the clocks that are in."""

    def open(self) -> None:
        """Post the first receives; courier's thread."""

    def push(self, row: int) -> None:
        """Send this worker's gradient of a row, once a clock; see `Carrier.then`."""

    def is_ready(self, row: int, version: int) -> bool:
        """Whether values of ``version`` or newer are here."""

    def settle(self, row: int) -> bool:
        """Put the newest values in place; main thread. Whether any changed."""

    def deliver(self, row: int, version: int, values: Array | None) -> None:
        """Values from the server beside this worker; courier's thread.

        None: they are in place already.
        """


class DirectClient:
    """Receives values straight into the parameters (staleness 0).

    Args:
        courier: the rank's.
        rows: all rows.
        model: whose parameters they are.
        roles: of this rank.
        contribute: the server beside this worker, in the courier's thread.
    """

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        model: Model,
        roles: Roles,
        contribute: Contribute | None,
    ) -> None:
        self._courier, self._rows, self._rank = courier, rows, roles.rank
        self._contribute = contribute
        self._labels = [model.label(row) for row in rows]
        self._memory = [RowMemory(row, model.blobs) for row in rows]
        self._versions = [model.iteration] * len(rows)
        self._settled = [model.iteration] * len(rows)

    def open(self) -> None:
        """Post a receive for every row that another rank owns."""
        for row in self._rows:
            if row.owner != self._rank:
                self._receive(row)

    def push(self, row: int) -> None:
        """Send the gradient from where it lies."""
        gradient = self._memory[row].contribution()
        self._courier.call(lambda: self._send(self._rows[row], gradient))

    def is_ready(self, row: int, version: int) -> bool:
        """Whether values of ``version`` are in place."""
        return self._versions[row] >= version

    def settle(self, row: int) -> bool:
        """Nothing to copy; whether the values are newer than at the last call."""
        changed = self._settled[row] != self._versions[row]
        self._settled[row] = self._versions[row]
        return changed

    def deliver(self, row: int, version: int, values: Array | None) -> None:
        """The server beside this worker has updated the row in place."""
        self._versions[row] = version

    # -- courier's thread --------------------------------------------------------------
    def _send(self, row: Row, gradient: Array) -> None:
        if row.owner == self._rank:
            assert self._contribute is not None
            self._contribute(row.index, gradient)
            return
        self._courier.send(
            row.owner,
            gradient_tag(row.index),
            gradient,
            priority=row.priority,
            label=self._labels[row.index],
        )

    def _receive(self, row: Row) -> None:
        self._courier.receive(
            row.owner,
            values_tag(row.index),
            self._memory[row.index].target(),
            lambda: self._arrived(row),
            label=self._labels[row.index],
        )

    def _arrived(self, row: Row) -> None:
        memory = self._memory[row.index]
        memory.take(memory.target())
        self._versions[row.index] += 1
        self._receive(row)
