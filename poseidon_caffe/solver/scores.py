"""Sums of test scores over batches that several workers have run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.types import Array, GradientSync, Shard

__all__ = ["ScoreSum"]

#: What one worker keeps at most before the workers add their scores up.
_KEPT_BYTES = 4 << 20
_KEPT_BATCHES = 1024


class ScoreSum:
    """Sums of each output over the batches 0, 1, ... of one test, in that order.

    Batch k is run by the worker ``(first + k) mod N``.  The workers add up seldom: at
    the end, and before that whenever much has gathered.  N workers make the additions
    of one process in the same order, so the result has the same bits.  A batch of
    another shape counts as far as it reaches.

    Args:
        sync: joins the workers' scores.
        shard: which worker this is.
        first: worker that runs batch 0.
        sizes: elements of each output, as built: the same on all workers.
    """

    def __init__(
        self, sync: GradientSync, shard: Shard, first: int, sizes: Sequence[int]
    ) -> None:
        self._sync, self._shard = sync, shard
        self._outputs = len(sizes)
        rounds = _KEPT_BYTES // (8 * max(sum(sizes), 1))
        self._period = min(max(rounds, 1), _KEPT_BATCHES) * shard.world
        # Places are counted from the batch that worker 0 would have run before.
        self._place, self._joined = first, 0
        # None stands for a place before the first batch.
        self._kept: list[list[Array] | None] = [None] if shard.rank < first else []
        self._total: list[Array] | None = None

    @property
    def is_own(self) -> bool:
        """Whether this worker runs the next batch."""
        return self._place % self._shard.world == self._shard.rank

    def add(self, scores: Sequence[Array]) -> None:
        """Take the next batch's scores: one flat array for each output."""
        self._kept.append([score.astype(np.float64) for score in scores])
        self._step()

    def skip(self) -> None:
        """The next batch is another worker's."""
        self._step()

    def finish(self) -> list[Array]:
        """The sums over all batches, one flat float64 array for each output."""
        if self._place > self._joined:
            self._join()
        return self._total or []

    def _step(self) -> None:
        self._place += 1
        if self._place - self._joined == self._period:
            self._join()

    def _join(self) -> None:
        """Add up what all workers have kept."""
        sizes = self._common_sizes()
        rows = [_row(scores, sizes) for scores in self._kept]
        if self._total is not None and self._shard.rank == 0:
            # All before the first of the new ones, which is always worker 0's.
            rows[0] = _row(self._total, sizes) + rows[0]
        flat = self._sync.sum_in_order(rows, self._place - self._joined)
        self._total = np.split(flat, np.cumsum(sizes)[:-1])
        self._kept, self._joined = [], self._place

    def _common_sizes(self) -> list[int]:
        """How far each output reaches in all batches of all workers."""
        found = [scores for scores in (*self._kept, self._total) if scores is not None]
        table = np.zeros((self._shard.world, self._outputs))
        for output in range(self._outputs):
            sizes = [scores[output].size for scores in found]
            table[self._shard.rank, output] = min(sizes, default=np.inf)
        if self._shard.world > 1:
            flat = self._sync.sum_in_order([table.reshape(-1)], self._shard.world)
            table = flat.reshape(table.shape)
        return [int(size) for size in table.min(axis=0)]


def _row(scores: Sequence[Array] | None, sizes: Sequence[int]) -> Array:
    """One flat array of all outputs; -0.0, which changes no sum, for no batch."""
    if scores is None:
        return np.full(sum(sizes), -0.0)
    return np.concatenate(
        [score[:size] for score, size in zip(scores, sizes, strict=True)]
    )
