"""Requests to stop or to snapshot, acted on by all workers at the same iteration."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.tags import AGREED, REQUESTS
from poseidon_caffe.types import Array

__all__ = ["Agreement"]


class Agreement:
    """Or-s the workers' request bits of each iteration, without making anyone wait.

    The answer for an iteration is asked for ``lag`` iterations later, when every
    worker must have passed it anyway.

    Args:
        courier: the rank's.
        roles: of this rank, a worker.
        lag: 1 + staleness.
        iteration: the first one.
    """

    def __init__(
        self, courier: Courier, roles: Roles, lag: int, iteration: int
    ) -> None:
        self._courier, self._lag = courier, lag
        self._rank, self._chair = roles.rank, roles.workers[0]
        self._others = [w for w in roles.workers if w != self._chair]
        self._first = iteration + 1
        self._heard: defaultdict[int, list[int]] = defaultdict(list)
        self._agreed: dict[int, int] = {}

    def open(self) -> None:
        """Post the first receives; courier's thread."""
        if self._rank == self._chair:
            for peer in self._others:
                self._receive(peer, REQUESTS)
        else:
            self._receive(self._chair, AGREED)

    def agree(self, iteration: int, requests: int) -> int:
        """Hand in this worker's bits of ``iteration``; all bits of an earlier one."""
        message = np.array([iteration, requests], np.int64)
        self._courier.call(lambda: self._hand_in(message))
        asked = iteration - self._lag
        if asked < self._first:
            return 0
        self._courier.wait_for(
            lambda: asked in self._agreed,
            Waiting(f"the workers' requests of iteration {asked}", self._late()),
        )
        return self._agreed.pop(asked)

    def _late(self) -> int | None:
        return None if self._rank == self._chair else self._chair

    # -- courier's thread ----------------------------------------------------------
    def _hand_in(self, message: Array) -> None:
        if self._rank == self._chair:
            self._take(message, REQUESTS)
        else:
            self._courier.send(self._chair, REQUESTS, message, label="requests")

    def _receive(self, peer: int, tag: int) -> None:
        message = np.empty(2, np.int64)

        def arrived() -> None:
            self._receive(peer, tag)
            self._take(message, tag)

        self._courier.receive(peer, tag, message, arrived, label="requests")

    def _take(self, message: Array, tag: int) -> None:
        iteration, bits = int(message[0]), int(message[1])
        if tag == AGREED:
            self._agreed[iteration] = bits
            return
        heard = self._heard[iteration]
        heard.append(bits)
        if len(heard) <= len(self._others):
            return
        agreed = int(np.bitwise_or.reduce(self._heard.pop(iteration)))
        answer = np.array([iteration, agreed], np.int64)
        for peer in self._others:
            self._courier.send(peer, AGREED, answer, label="agreed requests")
        self._agreed[iteration] = agreed
