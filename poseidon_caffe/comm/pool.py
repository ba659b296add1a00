"""Sums small arrays over workers in the middle of a layer (``--sync_batch_norm``)."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.comm.board import Board
from poseidon_caffe.types import Array

__all__ = ["WorkersPool"]

_PARTS, _SUMS = 20, 21


class WorkersPool:
    """`layers.base.Pool` over a board: worker 0 adds in rank order and tells all.

    Args:
        board: among the workers.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def sum(self, values: Array) -> None:
        """Replace ``values`` (float64, contiguous) by the sum over all workers.

        Waits for the slowest; all workers call it in the same order.
        """
        found = self._board.gather(_PARTS, values.tobytes())
        total = None
        if found is not None:
            parts = [np.frombuffer(part, values.dtype) for part in found]
            total = parts[0].copy()
            for part in parts[1:]:
                total += part
        payload = None if total is None else total.tobytes()
        result = np.frombuffer(self._board.broadcast(_SUMS, payload), values.dtype)
        values[...] = result.reshape(values.shape)
