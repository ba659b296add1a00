"""What workers tell each other between iterations: means of losses, scores, states."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.board import Board, Gathering
from poseidon_caffe.types import Array, JsonObject

__all__ = ["Talk"]

_AVERAGE, _SCORES, _TOTAL, _STATES, _END = range(5)


class Talk:
    """The part of `types.GradientSync` that is about numbers, not gradients.

    Args:
        board: among the workers.
        is_patient: means may come later, so that no worker waits for another.
    """

    def __init__(self, board: Board, *, is_patient: bool) -> None:
        self._board, self._is_patient = board, is_patient
        self._later: deque[tuple[Gathering, Callable[[Array], None]]] = deque()

    def average(self, values: Array, then: Callable[[Array], None]) -> None:
        """Call ``then`` with the mean over workers on rank 0, maybe later."""
        own = np.asarray(values, np.float64)
        round_ = self._board.start_gather(_AVERAGE, own.tobytes())
        if round_ is None:
            then(own)
            return
        self._later.append((round_, then))
        if not self._is_patient:
            self._board.finish(round_)
        self.tell_averages()

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of arrays dealt round the workers, added in their order."""
        own = [np.asarray(value, np.float64) for value in values]
        sizes = np.array([len(own), *(value.size for value in own)], np.int64)
        payload = sizes.tobytes() + b"".join(value.tobytes() for value in own)
        found = self._board.gather(_SCORES, payload)
        total = None if found is None else _sum(found, count).tobytes()
        return np.frombuffer(self._board.broadcast(_TOTAL, total), np.float64).copy()

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """Every worker's item (plain JSON) on rank 0."""
        found = self._board.gather(_STATES, json.dumps(item).encode())
        return None if found is None else [json.loads(text) for text in found]

    def finish(self) -> None:
        """Hear all that was put off: every worker has come this far."""
        for round_, _ in self._later:
            self._board.finish(round_)
        self.tell_averages()

    def end(self) -> None:
        """Return once every worker has called this; the last call."""
        self._board.barrier(_END)

    def tell_averages(self) -> None:
        """Hand on the means that are there."""
        while self._later and self._later[0][0].done():
            round_, then = self._later.popleft()
            values = [np.frombuffer(each, np.float64) for each in round_.result()]
            size = min(value.size for value in values)
            then(np.mean([value[:size] for value in values], axis=0))


def _sum(payloads: Sequence[bytes], count: int) -> Array:
    """Add the arrays in the order in which they were dealt.

    Where they differ in size each counts as far as the first reaches, as in a test
    in one process.
    """
    dealt = [_split(payload) for payload in payloads]
    total: Array | None = None
    for k in range(count):
        value = dealt[k % len(dealt)][k // len(dealt)]
        total = value if total is None else total[: value.size] + value[: total.size]
    return np.zeros(0) if total is None else total


def _split(payload: bytes) -> list[Array]:
    count = int(np.frombuffer(payload, np.int64, 1)[0])
    sizes = np.frombuffer(payload, np.int64, count, 8)
    values, at = [], 8 * (count + 1)
    for size in sizes:
        values.append(np.frombuffer(payload, np.float64, int(size), at))
        at += 8 * int(size)
    return values
