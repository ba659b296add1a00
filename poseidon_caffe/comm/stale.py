"""Bounded staleness (SSP): workers and servers that may be iterations apart.

Every message of values carries its version.  A worker keeps the newest values of each
row beside the parameters and puts them in place just before the layer's forward, so
that one iteration never sees two versions of a row; a server keeps masters of its own
and sends a worker only the newest version, at most one at a time.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.memory import RowMemory, pack
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.ordering import SendOrder
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.tags import gradient_tag, values_tag
from poseidon_caffe.types import Array

__all__ = ["BufferPool", "StaleClient", "VersionedDelivery"]

# A version stands in front of the values; the room keeps those aligned.
_HEAD_BYTES = 64


class BufferPool:
    """Byte arrays used again, by size; any thread may take and give."""

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[Array]] = defaultdict(deque)

    def take(self, size_bytes: int) -> Array:
        """An uninitialised byte array."""
        try:
            return self._free[size_bytes].pop()
        except IndexError:
            return np.empty(size_bytes, np.uint8)

    def give(self, array: Array) -> None:
        """It is not used any more."""
        self._free[array.nbytes].append(array.view(np.uint8))


def _payload(message: Array, row: Row) -> Array:
    return message[_HEAD_BYTES:].view(row.dtype)


def _version(message: Array) -> Array:
    return message[:8].view(np.int64)


class StaleClient:
    """A worker's side of the rows when it may run ahead.

    Args:
        courier: the rank's.
        rows: all rows.
        model: whose parameters they are.
        roles: of this rank.
        contribute: the server beside this worker, in the courier's thread.
        order: which of several waiting gradients leaves first.
        pool: shared with the server beside it, which frees this worker's gradients.
    """

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        model: Model,
        roles: Roles,
        contribute: Callable[[int, Array], None] | None,
        order: SendOrder,
        pool: BufferPool,
    ) -> None:
        self._courier, self._rows, self._rank = courier, rows, roles.rank
        self._contribute, self._order = contribute, order
        self._labels = [model.label(row) for row in rows]
        self._memory = [RowMemory(row, model.blobs) for row in rows]
        self._newest: list[Array | None] = [None] * len(rows)
        self._versions = [model.iteration] * len(rows)
        # Gradients of each row that have not left, and the last one's priority.
        self._leaving = [0] * len(rows)
        self._priorities = [0] * len(rows)
        self._pool, self._lock = pool, threading.Lock()

    def open(self) -> None:
        """Post a receive for every row that another rank owns."""
        for row in self._rows:
            if row.owner != self._rank:
                self._receive(row)

    def push(self, row: int) -> None:
        """Send a copy of the gradient: backward goes on before it has left."""
        memory = self._memory[row]
        priority = self._order.priority(memory)
        copy = self._pool.take(memory.row.size_bytes).view(memory.row.dtype)
        np.copyto(copy, memory.contribution())
        self._courier.call(lambda: self._send(self._rows[row], copy, priority))

    def is_ready(self, row: int, version: int) -> bool:
        """Whether values of ``version`` or newer are here."""
        return self._versions[row] >= version

    def settle(self, row: int) -> bool:
        """Put the newest values in place, if they are not yet."""
        with self._lock:
            message, self._newest[row] = self._newest[row], None
        if message is None:
            return False
        self._memory[row].take(_payload(message, self._rows[row]))
        self._pool.give(message)
        return True

    def deliver(self, row: int, version: int, values: Array | None) -> None:
        """Values from the server beside this worker."""
        assert values is not None
        message = self._pool.take(_HEAD_BYTES + values.nbytes)
        _payload(message, self._rows[row])[...] = values
        self._keep(row, version, message)

    # -- courier's thread --------------------------------------------------------------
    def _send(self, row: Row, gradient: Array, priority: int) -> None:
        if row.owner == self._rank:
            assert self._contribute is not None
            self._contribute(row.index, gradient)
            return
        # The server counts a row's gradients by their order: none overtakes another.
        if self._leaving[row.index]:
            priority = max(priority, self._priorities[row.index])
        self._leaving[row.index] += 1
        self._priorities[row.index] = priority

        def gone() -> None:
            self._leaving[row.index] -= 1
            self._pool.give(gradient)

        self._courier.send(
            row.owner,
            gradient_tag(row.index),
            gradient,
            priority=priority,
            then=gone,
            label=self._labels[row.index],
        )

    def _receive(self, row: Row) -> None:
        message = self._pool.take(_HEAD_BYTES + row.size_bytes)

        def arrived() -> None:
            self._keep(row.index, int(_version(message)[0]), message)
            self._receive(row)

        self._courier.receive(
            row.owner,
            values_tag(row.index),
            message,
            arrived,
            label=self._labels[row.index],
        )

    def _keep(self, row: int, version: int, message: Array) -> None:
        with self._lock:
            older, self._newest[row] = self._newest[row], message
            self._versions[row] = version
        if older is not None:
            self._pool.give(older)


class VersionedDelivery:
    """A server's masters and what it sends when workers may be behind or ahead.

    Args:
        courier: the rank's.
        rows: all rows.
        model: initial values.
        roles: of this rank.
        own: the worker beside this server.
        pool: shared with that worker.
    """

    receives_ahead = True

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        model: Model,
        roles: Roles,
        own: Callable[[int, int, Array | None], None] | None,
        pool: BufferPool,
    ) -> None:
        self._courier, self._roles, self._own = courier, roles, own
        self._labels = {row.index: model.label(row) for row in rows}
        self._masters: dict[int, list[Array]] = {}
        for row in rows:
            if row.owner == roles.rank:
                parts = RowMemory(row, model.blobs).data
                self._masters[row.index] = [np.array(part) for part in parts]
        self._pool = pool
        self._sending: set[tuple[int, int]] = set()
        self._sent: dict[tuple[int, int], int] = {}
        self._versions: dict[int, int] = {}

    def master(self, row: Row) -> list[Array]:
        """Copies that no worker computes with."""
        return self._masters[row.index]

    def buffer(self, row: Row, worker: int) -> Array:
        """A fresh array: the worker may send further clocks before this one is full."""
        return self._pool.take(row.size_bytes).view(row.dtype)

    def free(self, row: Row, buffer: Array) -> None:
        """Keep it for another gradient."""
        self._pool.give(buffer)

    def deliver(self, row: Row, version: int) -> None:
        """Send every worker the newest values as soon as it can take them."""
        self._versions[row.index] = version
        for worker in self._roles.workers:
            if worker == self._roles.rank:
                assert self._own is not None
                values = pack(self.master(row), np.empty(row.count, row.dtype))
                self._own(row.index, version, values)
            else:
                self._send(row, worker)

    def _send(self, row: Row, worker: int) -> None:
        key = (row.index, worker)
        version = self._versions[row.index]
        if key in self._sending or self._sent.get(key) == version:
            return
        message = self._pool.take(_HEAD_BYTES + row.size_bytes)
        _version(message)[0] = version
        pack(self.master(row), _payload(message, row))
        self._sending.add(key)
        self._sent[key] = version

        def gone() -> None:
            self._sending.discard(key)
            self._pool.give(message)
            self._send(row, worker)

        self._courier.send(
            worker,
            values_tag(row.index),
            message,
            priority=row.priority,
            then=gone,
            label=self._labels[row.index],
        )
