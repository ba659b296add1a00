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
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from poseidon_caffe.backend.protocols import Stage
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.staged import StagedBatch
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
        stage: the way to the device's memory that kernels use, closed with the feed;
            None if they use the host's.
    """

    batch_size: int
    shard: Shard = field(default_factory=Shard)
    first_record: int = 0
    prefetch: int = 2
    threads: int = 1
    channels_last: bool = False
    stage: Stage | None = None


class _Ahead(NamedTuple):
    """A batch that is being read ahead: the one that begins at ``base``."""

    base: int
    work: Future[None]
    batch: Batch


class Feed:
    """Batches of a source, one after the other.

    NumPy and Pillow release the GIL and nothing here calls OpenMP, so the threads
    run beside the net's kernels.  Memory is allocated once: ``prefetch`` batches.

    Where kernels use a device's memory, each batch is sent there as soon as those
    before it are and there is room, by whatever thread finds it so.

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
        self._sending = threading.Lock()  # of threads that send what is waiting
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
            self._lent.recall()  # unless it was used
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
        if self.settings.stage is not None:
            self.settings.stage.close()

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
        size, last = self.settings.batch_size, self.settings.channels_last
        if self.settings.stage is None:
            return Batch(size, channels_last=last)
        return StagedBatch(size, self.settings.stage, channels_last=last)

    def _fill(self, records: range, batch: Batch) -> None:
        batch.begin()
        self._source.fill(records, batch)

    def _read_now(self) -> Batch:
        batch = self._free.pop()
        try:
            self._fill(self._records(self._next), batch)
            batch.prepare()
            batch.send()
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
            first.batch.prepare()
            self._send_ready()
        except BaseException:
            self._drop_prefetched()
            raise
        with self._sending:
            self._waiting.popleft()
        return first.batch

    def _send_ready(self, _work: object = None) -> None:
        """Send the batches that are read, in order, as far as there is room."""
        with self._sending:
            for ahead in self._waiting:
                work = ahead.work
                if not work.done() or work.cancelled() or work.exception():
                    break
                if not ahead.batch.send():
                    break

    def _read_ahead(self) -> None:
        """Give every free batch to the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.settings.threads, "poseidon-data")
        while self._free:
            batch = self._free.pop()
            work = self._pool.submit(self._fill, self._records(self._ahead), batch)
            with self._sending:
                self._waiting.append(_Ahead(self._ahead, work, batch))
            if self.settings.stage is not None:
                work.add_done_callback(self._send_ready)
            self._ahead += self._stride

    def _drop_prefetched(self) -> None:
        """Forget what was read ahead, waiting only for what is being read."""
        with self._sending:
            dropped = list(self._waiting)
            self._waiting.clear()
        for ahead in dropped:
            ahead.work.cancel()
        for ahead in dropped:
            if not ahead.work.cancelled():
                ahead.work.exception()
            ahead.batch.recall()
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
