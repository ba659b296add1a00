"""Compares the workers' replicas now and then, and mends them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.broadcast import Broadcaster
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.rebuilding import rebuilder_of
from poseidon_caffe.types import Array

__all__ = ["ReplicaCheck", "checksum"]

_CHECKSUMS = 10


def checksum(arrays: Sequence[Array]) -> int:
    """A checksum of the arrays' bytes, in order."""
    value = 0
    for array in arrays:
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return value


class ReplicaCheck:
    """Slots that every worker updates itself must stay equal, bit for bit.

    On machines with unlike processors the rebuilding product may differ in the last
    bit, so replicas would drift; then rank 0's values and histories are handed to all.

    Args:
        board: among the workers.
        model: what is trained.
        slots: indices of the slots that are updated on every worker.
        every_iters: how often to compare; 0: never.
        broadcaster: hands arrays of worker 0 to all.
        tell: gets a line when replicas had drifted.
    """

    def __init__(
        self,
        board: Board,
        model: Model,
        slots: Sequence[int],
        every_iters: int,
        broadcaster: Broadcaster,
        tell: Callable[[str], None],
    ) -> None:
        self._board, self._model, self._slots = board, model, slots
        self._every_iters, self._broadcaster = every_iters, broadcaster
        self._tell, self._rebuilder = tell, rebuilder_of(model)

    def is_due(self, iteration: int) -> bool:
        """Whether the replicas are to be compared after so many iterations."""
        if not self._slots or not self._every_iters:
            return False
        return iteration % self._every_iters == 0

    def check(self) -> None:
        """Compare; all slots must have been waited for."""
        arrays = self._rebuilder.values(self._slots)
        own = checksum(arrays)
        found = self._board.all_gather(_CHECKSUMS, str(own).encode())
        if len(set(found)) == 1:
            return
        names = ", ".join(self._model.slots[slot].name for slot in self._slots)
        drifted = [rank for rank, each in enumerate(found) if each != found[0]]
        self._tell(
            f"replicas of {names} differ on ranks {drifted} (unlike processors?): "
            "all take rank 0's values; --svb off avoids this"
        )
        arrays += self._rebuilder.histories(self._slots)
        self._broadcaster.broadcast(arrays)
        self._rebuilder.take(self._slots, arrays)
        for slot in self._slots:
            self._model.blobs[slot].touch()
