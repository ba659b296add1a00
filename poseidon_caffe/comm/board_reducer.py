"""What stands in for NCCL on emulated GPUs: means by way of the hosts."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.protocols import Moment, Transfers
from poseidon_caffe.comm.board import Board
from poseidon_caffe.types import Array

__all__ = ["BoardReducer"]

_PARTS = 50


class BoardReducer:
    """`Reducer` over a board; adds in rank order, and waits, so it is for tests.

    Args:
        board: among the ranks.
        transfers: of the backend whose arrays they are.
    """

    def __init__(self, board: Board, transfers: Transfers) -> None:
        self._board, self._transfers = board, transfers

    def mean(self, array: Array) -> Moment:
        """Replace an array by its mean over all ranks."""
        own = self._transfers.pinned(array.size, array.dtype)
        moment = self._transfers.fetch(array, own)
        moment.wait()
        found = self._board.all_gather(_PARTS, own.tobytes())
        parts = [np.frombuffer(part, own.dtype) for part in found]
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        own[...] = total / len(parts)
        return self._transfers.store(own, array, moment)

    def hold(self, moment: Moment) -> None:
        """Let kernels given from now on begin after a mean is there."""
        self._transfers.hold(moment)

    def close(self) -> None:
        """Nothing is held."""
