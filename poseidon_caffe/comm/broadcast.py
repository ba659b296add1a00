"""Hands big arrays from one rank to all, along a chain, in chunks."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.tags import CHUNK
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["Broadcaster"]

_CHUNK_BYTES = 1 << 20


class Broadcaster:
    """Sends arrays of the first member to all others.

    Each rank passes a chunk on as soon as it has it, so the whole takes the time of
    one transfer and a few chunks, however many ranks there are.

    Args:
        courier: started.
        members: ranks in the order of the chain; the first one has the values.
    """

    def __init__(self, courier: Courier, members: Sequence[int]) -> None:
        self._courier = courier
        place = list(members).index(courier.rank)
        self._before = members[place - 1] if place else None
        self._after = members[place + 1] if place + 1 < len(members) else None
        self._missing = self._next = 0

    def broadcast(self, arrays: Sequence[Array]) -> None:
        """Overwrite the others' ``arrays`` with the first member's; main thread.

        All members give arrays of the same sizes, C-contiguous and writable.

        Raises:
            ClusterError: an array is not contiguous.
        """
        chunks = [chunk for array in arrays for chunk in _chunks(array)]
        steps = (self._before is not None) + (self._after is not None)
        self._missing, self._next = steps * len(chunks), 0
        self._courier.call(lambda: self._begin(chunks))
        what = Waiting("the values of rank 0", self._before)
        self._courier.wait_for(lambda: not self._missing, what)

    # -- courier's thread ----------------------------------------------------------
    def _begin(self, chunks: Sequence[Array]) -> None:
        if self._before is None:
            for chunk in chunks:
                self._pass_on(chunk)
            return
        # A short chunk may be complete before a long one that was sent earlier, but
        # must not be passed on before it.
        arrived = [False] * len(chunks)
        for i in range(len(chunks)):
            self._receive(i, chunks, arrived, self._before)

    def _receive(
        self, i: int, chunks: Sequence[Array], arrived: list[bool], peer: int
    ) -> None:
        def came() -> None:
            arrived[i] = True
            self._gone()
            while self._next < len(chunks) and arrived[self._next]:
                self._next += 1
                self._pass_on(chunks[self._next - 1])

        self._courier.receive(peer, CHUNK, chunks[i], came, label="start values")

    def _pass_on(self, chunk: Array) -> None:
        if self._after is not None:
            self._courier.send(
                self._after, CHUNK, chunk, then=self._gone, label="start values"
            )

    def _gone(self) -> None:
        self._missing -= 1


def _chunks(array: Array) -> list[Array]:
    if not array.flags.c_contiguous:
        raise ClusterError(f"only contiguous arrays travel, not {array.shape}")
    flat = array.reshape(-1)
    count = _CHUNK_BYTES // flat.itemsize
    return [flat[i : i + count] for i in range(0, flat.size, count)]
