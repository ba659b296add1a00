"""Feed: batches in order, read ahead in threads, dealt to workers, resumable.

A global record number g runs on over the epochs.  Worker r of N takes the
records ``base + r, base + r + N, ...`` (each modulo the number of records), and
``base`` advances by N batches at a time: together N workers see in one step what
one worker with N times the batch would see.

Where whole batches are dealt (`Shard.by_batch`), a worker takes the records from
``base`` on, and ``base`` advances by one batch whether it takes or skips it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from poseidon_caffe.data.batch import Batch
from poseidon_caffe.errors import DataError
from poseidon_caffe.types import JsonObject, Shard

__all__ = ["BatchSource", "Feed", "FeedSettings", "decoding_threads"]

_PREFETCH_MAX = 1024  # more of them only fill the memory


class BatchSource(Protocol):
    """Fills batches with records; called from several threads at once."""

    def __len__(self) -> int:
        """Number of records in an epoch."""

    def fill(self, records: range, batch: Batch) -> None:
        """Put records (global numbers, over all epochs) into ``batch``."""

    def close(self) -> None:
        """Release files."""


@dataclass(frozen=True)
class FeedSettings:
    """How records become batches.

    Attributes:
        batch_size: records of one batch of one worker.
        shard: which worker this is.
        first_record: global number at which the first epoch starts (rand_skip).
        prefetch: batches read ahead, 0 to read when asked (without threads).
        threads: that read ahead.
        channels_last: layout of the images.
    """

    batch_size: int
    shard: Shard = field(default_factory=Shard)
    first_record: int = 0
    prefetch: int = 2
    threads: int = 1
    channels_last: bool = False


class _Ahead(NamedTuple):
    """A batch that is being read ahead: the one that begins at ``base``."""

    base: int
    work: Future[None]
    batch: Batch


class Feed:
    """Batches of a source, one after the other.

    NumPy and Pillow release the GIL and nothing here calls OpenMP, so the threads
    run beside the net's kernels.  Memory is allocated once: ``prefetch`` batches.

    Args:
        source: closed with the feed.
        settings: see `FeedSettings`.

    Attributes:
        on_restart: called (by the consumer's thread) with each batch in which the
            records start over.

    Raises:
        DataError: a batch size of 0.
    """

    def __init__(self, source: BatchSource, settings: FeedSettings) -> None:
        if settings.batch_size <= 0:
            raise DataError("batch_size must be at least 1")
        self.settings = settings
        self.on_restart: Callable[[], None] | None = None
        self._source = source
        self._size = len(source)
        self._next = settings.first_record
        self._ahead = self._next
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[_Ahead] = deque()
        count = min(max(1, settings.prefetch), _PREFETCH_MAX)
        self._free = [self._new_batch() for _ in range(count)]
        self._lent: Batch | None = None
        self._closed = False

    def next(self) -> Batch:
        """The next batch; valid until the next call of this or of `release`.

        Raises:
            DataError: a record cannot be read; the position stays, so that a
                further call tries the same batch again.
        """
        if self._closed:
            raise DataError("the data feed is closed already")
        if self._lent is not None:
            self.release()
        batch = self._prefetched() if self.settings.prefetch else self._read_now()
        self._lent = batch
        self._advance()
        return batch

    def release(self) -> None:
        """Give the batch back, and let the threads read on.

        Best called once the batch is copied: a thread that starts reading takes the
        interpreter's lock from a caller that still has NumPy calls to make.
        """
        if self._lent is not None:
            self._free.append(self._lent)
            self._lent = None
        if self.settings.prefetch and self._waiting and not self._closed:
            self._read_ahead()

    def skip(self) -> None:
        """Leave one batch to another worker, without reading it.

        Does nothing unless whole batches are dealt.

        Raises:
            DataError: the feed is closed.
        """
        if self._closed:
            raise DataError("the data feed is closed already")
        if self.settings.shard.by_batch:
            self._advance()

    @property
    def record_count(self) -> int:
        """Records of an epoch."""
        return self._size

    def state(self) -> JsonObject:
        """The global number after the last batch handed out, the same in all ranks."""
        return {"next_record": self._next}

    def restore_state(self, state: JsonObject) -> None:
        """Go on where `state` was taken, with any number of workers.

        Raises:
            DataError: the state is not one of a feed.
        """
        place = state.get("next_record")
        if not isinstance(place, int) or place < 0:
            raise DataError(f"{state} is not the position of a data feed")
        self._drop_prefetched()
        self._next = place

    def close(self) -> None:
        """Stop the threads and close the source; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self._drop_prefetched()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._source.close()

    # -- reading ---------------------------------------------------------------------
    def _records(self, base: int) -> range:
        size, shard = self.settings.batch_size, self.settings.shard
        if shard.by_batch:
            return range(base, base + size)
        start = base + shard.rank
        return range(start, start + size * shard.world, shard.world)

    @property
    def _stride(self) -> int:
        """Records from one batch of this worker to its next, others' included."""
        return self.settings.batch_size * self.settings.shard.world

    def _new_batch(self) -> Batch:
        settings = self.settings
        return Batch(settings.batch_size, channels_last=settings.channels_last)

    def _read_now(self) -> Batch:
        batch = self._free.pop()
        try:
            self._source.fill(self._records(self._next), batch)
        except BaseException:
            self._free.append(batch)
            raise
        return batch

    def _prefetched(self) -> Batch:
        if self._waiting and self._waiting[0].base != self._next:
            self._drop_prefetched()  # others took or skipped more than foreseen
        if not self._waiting:
            self._ahead = self._next
            self._read_ahead()
        first = self._waiting[0]
        try:
            first.work.result()
        except BaseException:
            self._drop_prefetched()
            raise
        self._waiting.popleft()
        return first.batch

    def _read_ahead(self) -> None:
        """Give every free batch to the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.settings.threads, "poseidon-data")
        while self._free:
            batch = self._free.pop()
            work = self._pool.submit(
                self._source.fill, self._records(self._ahead), batch
            )
            self._waiting.append(_Ahead(self._ahead, work, batch))
            self._ahead += self._stride

    def _drop_prefetched(self) -> None:
        """Forget what was read ahead, waiting only for what is being read."""
        for ahead in self._waiting:
            ahead.work.cancel()
        while self._waiting:
            ahead = self._waiting.popleft()
            if not ahead.work.cancelled():
                ahead.work.exception()
            self._free.append(ahead.batch)

    def _advance(self) -> None:
        settings = self.settings
        step = settings.batch_size if settings.shard.by_batch else self._stride
        before, self._next = self._next, self._next + step
        if self.on_restart is not None:
            for _ in range(self._next // self._size - before // self._size):
                self.on_restart()


def decoding_threads() -> int:
    """How many threads decode images: those cores that compute can spare."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min(4, cores // 4))
