"""Brings the sharded solver history to rank 0, for a snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.memory import pack, unpack
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.tags import HISTORY_WANTED, history_tag
from poseidon_caffe.types import Array

__all__ = ["HistoryCollector"]


class HistoryCollector:
    """Worker 0 asks every server for the history of its rows, and gets it in place.

    Nothing moves meanwhile: worker 0 has not sent its gradients of the next clock.

    Args:
        courier: the rank's.
        rows: all rows.
        model: whose updater knows the history arrays.
        roles: of this rank.
    """

    def __init__(
        self, courier: Courier, rows: Sequence[Row], model: Model, roles: Roles
    ) -> None:
        self._courier, self._model, self._roles = courier, model, roles
        quantities = model.updater.history_count
        self._rows = [row for row in rows if quantities and not row.is_mean]
        self._quantities = quantities
        self._missing = 0

    def open(self) -> None:
        """Be ready to be asked; courier's thread."""
        if self._roles.serves and self._roles.rank != self._roles.workers[0]:
            self._listen()

    def collect(self) -> None:
        """Return once worker 0 has every row's history; other ranks return at once."""
        if self._roles.rank != self._roles.workers[0]:
            return
        foreign = [row for row in self._rows if row.owner != self._roles.rank]
        self._missing = len(foreign)
        self._courier.call(lambda: self._ask(foreign))
        what = Waiting("solver history of the rows of other ranks")
        self._courier.wait_for(lambda: not self._missing, what)

    def _parts(self, row: Row) -> list[Array]:
        """A row's stretches of all history arrays."""
        return [
            self._model.updater.history_of(piece.slot)[quantity][
                piece.start : piece.stop
            ]
            for quantity in range(self._quantities)
            for piece in row.pieces
        ]

    def _buffer(self, row: Row) -> Array:
        return np.empty(row.count * self._quantities, row.dtype)

    # -- courier's thread ----------------------------------------------------------
    def _ask(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._receive(row)
        for owner in sorted({row.owner for row in rows}):
            word = np.zeros(1, np.int64)
            self._courier.send(owner, HISTORY_WANTED, word, label="history wanted")

    def _receive(self, row: Row) -> None:
        buffer = self._buffer(row)

        def arrived() -> None:
            unpack(buffer, self._parts(row))
            self._missing -= 1

        label = f"history of {self._model.label(row)}"
        tag = history_tag(row.index)
        self._courier.receive(row.owner, tag, buffer, arrived, label=label)

    def _listen(self) -> None:
        word, asker = np.empty(1, np.int64), self._roles.workers[0]

        def asked() -> None:
            self._listen()
            for row in self._rows:
                if row.owner == self._roles.rank:
                    packed = pack(self._parts(row), self._buffer(row))
                    tag = history_tag(row.index)
                    self._courier.send(asker, tag, packed, label="history")

        self._courier.receive(asker, HISTORY_WANTED, word, asked, label="idle")
