"""What carries bytes between ranks: the seam between the cluster and MPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from poseidon_caffe.types import Array

__all__ = ["Request", "Transport"]


class Request(Protocol):
    """A transfer under way; compared by identity only."""


class Transport(Protocol):
    """Non-blocking point-to-point messages between ``size`` ranks.

    One thread makes all calls (the courier's; before it starts, the main thread).
    Messages of one sender, receiver and tag arrive in the order they were sent;
    others in any order.  An array must stay untouched until its request is among
    those `finished` names, and sender and receiver agree on its bytes.

    Attributes:
        rank: of this process.
        size: how many ranks there are.
        hosts: name of each rank's machine, by rank.
        pids: process number of each rank, by rank.
    """

    rank: int
    size: int
    hosts: Sequence[str]
    pids: Sequence[int]

    def send(self, peer: int, tag: int, array: Array) -> Request:
        """Begin to send ``array`` (C-contiguous, any dtype) to rank ``peer``.

        It lies in this machine's memory; in a GPU's only where MPI can send that
        (`backend.gpu.aware_mpi`).

        Raises:
            ClusterError: the transport refused; it names the peer.
        """

    def receive(self, peer: int, tag: int, array: Array) -> Request:
        """Begin to receive into ``array`` from rank ``peer``.

        Raises:
            ClusterError: the transport refused; it names the peer.
        """

    def finished(self) -> Sequence[Request]:
        """Make progress; the requests that finished since the last call.

        Never blocks.

        Raises:
            ClusterError: a peer is known to be dead or a message was truncated.
        """

    def abort(self, code: int) -> NoReturn:
        """End the whole job now, from any thread, with exit status ``code``."""

    def close(self) -> None:
        """Leave in order: every rank has to call it, with nothing under way."""
