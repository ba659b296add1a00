"""The gradient's norm over the whole cluster, for ``clip_gradients``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.tags import NORM_FACTORS, NORM_ROWS
from poseidon_caffe.comm.verdict import VerdictBoard
from poseidon_caffe.types import Array

__all__ = ["NormBoard"]


class NormBoard:
    """Gathers partial sums of squares on every rank and says how much to clip.

    Each server tells the sum over its rows, worker 0 that over the factor slots (all
    workers have the same); the parts are added in one order everywhere, so that all
    ranks clip alike.  Caffe's order: the norm is of the gradient summed over
    ``iter_size``, here averaged over workers.

    Args:
        courier: the rank's.
        roles: of this rank.
        limit: ``clip_gradients``.
        with_factors: whether there are factor slots.
        clock: the first iteration.
        verdicts: known when a sum that is not 0 is told; gradients are scaled then.

    Attributes:
        clock: the iteration whose norm is being gathered.
        factor: what the last known gradient must be multiplied by.
        on_known: called with it in the courier's thread, for the server here.
        events: (iteration, norm, factor) of those that were clipped.
    """

    def __init__(
        self,
        courier: Courier,
        roles: Roles,
        limit: float,
        *,
        with_factors: bool,
        clock: int,
        verdicts: VerdictBoard | None = None,
    ) -> None:
        self._courier, self._roles, self._limit = courier, roles, limit
        self.clock, self.factor, self._verdicts = clock, 1.0, verdicts
        self.on_known: Callable[[float], None] | None = None
        self.events: list[tuple[int, float, float]] = []
        self._sources = [(NORM_ROWS, server) for server in roles.servers]
        if with_factors:
            self._sources.append((NORM_FACTORS, roles.workers[0]))
        self._parts: defaultdict[int, dict[tuple[int, int], float]] = defaultdict(dict)

    def open(self) -> None:
        """Post the first receives; courier's thread."""
        for tag, peer in self._sources:
            if peer != self._roles.rank:
                self._receive(tag, peer)

    def rows_done(self, clock: int, sum_of_squares: float) -> None:
        """The server here has summed all its rows; courier's thread."""
        self._tell(NORM_ROWS, clock, sum_of_squares)

    def factors_done(self, clock: int, sum_of_squares: float) -> None:
        """This worker has rebuilt all factor slots; any thread."""
        if self._roles.rank == self._roles.workers[0]:
            self._courier.call(lambda: self._tell(NORM_FACTORS, clock, sum_of_squares))

    # -- courier's thread ----------------------------------------------------------
    def _tell(self, tag: int, clock: int, sum_of_squares: float) -> None:
        if self._verdicts is not None and sum_of_squares:
            sum_of_squares = self._verdicts.of(clock).squares(sum_of_squares)
        message = np.array([clock, sum_of_squares], np.float64)
        for peer in {*self._roles.workers, *self._roles.servers}:
            if peer != self._roles.rank:
                self._courier.send(peer, tag, message, label="norm")
        self._take(tag, self._roles.rank, message)

    def _receive(self, tag: int, peer: int) -> None:
        message = np.empty(2, np.float64)

        def arrived() -> None:
            self._receive(tag, peer)
            self._take(tag, peer, message)

        self._courier.receive(peer, tag, message, arrived, label="gradient norm")

    def _take(self, tag: int, peer: int, message: Array) -> None:
        self._parts[int(message[0])][tag, peer] = float(message[1])
        parts = self._parts[self.clock]
        if len(parts) < len(self._sources):
            return
        total = math.fsum(parts[source] for source in self._sources)
        del self._parts[self.clock]
        norm = math.sqrt(total) / len(self._roles.workers)
        self.factor = self._limit / norm if norm > self._limit else 1.0
        if norm > self._limit:
            self.events.append((self.clock, norm, self.factor))
        self.clock += 1
        if self.on_known is not None:
            self.on_known(self.factor)
