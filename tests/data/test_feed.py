from __future__ import annotations

import itertools
import threading
import time

import pytest

from poseidon_caffe.data.feed import Feed, FeedSettings, decoding_threads
from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Shard


class Numbers:
    """A source whose labels are the global numbers of the records."""

    def __init__(self, size=1000, delays=(0,), bad=()):
        self.size, self.delays, self.bad = size, delays, set(bad)
        self.closed = False
        self.reads = 0
        self.threads = set()

    def __len__(self):
        return self.size

    def fill(self, records, batch):
        assert not self.closed
        self.reads += 1
        self.threads.add(threading.current_thread())
        time.sleep(self.delays[records[0] % len(self.delays)])
        if self.bad.intersection(records):
            raise DataError(f"bad batch at {records[0]}")
        batch.shape_data((1, 1, 1))
        batch.label[:] = records
        batch.data[:, 0, 0, 0] = records

    def close(self):
        self.closed = True


def take(feed, count):
    found = []
    for _ in range(count):
        batch = feed.next()
        assert batch.data.reshape(-1).tolist() == batch.label.tolist()
        found.append([int(label) for label in batch.label])
    return found


def joined(batches):
    return list(itertools.chain.from_iterable(batches))


MODES = [{"prefetch": 0}, {"prefetch": 1}, {"prefetch": 3, "threads": 2}]


@pytest.fixture(params=MODES, ids=str)
def open_feed(request):
    opened = []

    def make(source=None, **settings):
        settings = {"batch_size": 4, **request.param, **settings}
        feed = Feed(source or Numbers(), FeedSettings(**settings))
        opened.append(feed)
        return feed

    yield make
    for feed in opened:
        feed.close()


def test_order(open_feed):
    assert joined(take(open_feed(), 50)) == list(range(200))


def test_order_with_threads_of_different_speed():
    source = Numbers(delays=(0.02, 0, 0.005, 0, 0.01))
    feed = Feed(source, FeedSettings(batch_size=3, prefetch=6, threads=4))
    assert joined(take(feed, 20)) == list(range(60))
    assert len(source.threads) > 1
    feed.close()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_deal_the_records(open_feed, world):
    feeds = [open_feed(shard=Shard(r, world)) for r in range(world)]
    for step in range(5):
        dealt = [take(feed, 1)[0] for feed in feeds]
        base = step * 4 * world
        assert sorted(joined(dealt)) == list(range(base, base + 4 * world))
        for rank, records in enumerate(dealt):
            assert all((record - base) % world == rank for record in records)
        assert len({feed.state()["next_record"] for feed in feeds}) == 1


def test_state_counts_what_was_consumed_not_what_was_read(open_feed):
    feed = open_feed()
    assert feed.state() == {"next_record": 0}
    take(feed, 3)
    time.sleep(0.02)
    assert feed.state() == {"next_record": 12}


def test_resume(open_feed):
    feed = open_feed(first_record=5)
    expected = take(feed, 6)
    other = open_feed()
    take(other, 4)
    other.restore_state({"next_record": 5 + 4 * 3})
    assert take(other, 3) == expected[3:]


def test_resume_before_the_first_batch(open_feed):
    feed = open_feed()
    feed.restore_state({"next_record": 40})
    assert take(feed, 1) == [[40, 41, 42, 43]]


def test_a_state_of_something_else(open_feed):
    with pytest.raises(DataError, match="not the position"):
        open_feed().restore_state({"epoch": 3})


def test_an_error_reaches_the_consumer_at_its_batch(open_feed):
    source = Numbers(bad=[9])
    feed = open_feed(source)
    assert take(feed, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for _ in range(2):
        with pytest.raises(DataError, match="bad batch at 8"):
            feed.next()
        assert feed.state() == {"next_record": 8}
    source.bad.clear()  # the file server is back
    assert take(feed, 2) == [[8, 9, 10, 11], [12, 13, 14, 15]]


def test_restarts_are_told(open_feed):
    feed = open_feed(Numbers(size=6))
    told = []
    feed.on_restart = lambda: told.append(feed.state()["next_record"])
    take(feed, 6)
    # Records 0-3, 4-7, ...: the epochs end at 6, 12, 18, 24.
    assert told == [8, 12, 20, 24]


def test_batches_are_used_again(open_feed):
    feed = open_feed()
    assert len({id(feed.next()) for _ in range(30)}) <= max(1, feed.settings.prefetch)


def test_nothing_is_read_before_the_first_batch():
    source = Numbers()
    feed = Feed(source, FeedSettings(batch_size=4))
    assert source.reads == 0
    feed.close()


def test_closing_is_prompt_and_ends_the_threads():
    source = Numbers(delays=(0.1,))
    feed = Feed(source, FeedSettings(batch_size=2, prefetch=50, threads=2))
    feed.next()
    start = time.perf_counter()
    feed.close()
    assert time.perf_counter() - start < 1  # all that was asked for takes 2.4 s
    assert source.closed
    assert not any(thread.is_alive() for thread in source.threads)
    feed.close()
    with pytest.raises(DataError, match="closed"):
        feed.next()


def deal(feeds, order):
    """Let the feeds take the batches in turn; ``order`` says whose each one is."""
    found = []
    for rank in order:
        for other, feed in enumerate(feeds):
            if other == rank:
                found += take(feed, 1)
            else:
                feed.skip()
        assert len({feed.state()["next_record"] for feed in feeds}) == 1
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
def test_whole_batches_are_dealt(open_feed, world):
    source = [Numbers(size=10) for _ in range(world)]
    feeds = [
        open_feed(source[r], shard=Shard(r, world, by_batch=True), first_record=3)
        for r in range(world)
    ]
    told = [[] for _ in feeds]
    for feed, notes in zip(feeds, told, strict=True):
        feed.on_restart = lambda f=feed, n=notes: n.append(f.state()["next_record"])
    dealt = deal(feeds, [k % world for k in range(12)])
    assert joined(dealt) == list(range(3, 51))
    # As one process tells them, whoever read the record.
    assert told == [[11, 23, 31, 43, 51]] * world


def test_batches_dealt_otherwise_than_foreseen(open_feed):
    feeds = [open_feed(shard=Shard(r, 3, by_batch=True)) for r in range(3)]
    order = [0, 1, 2, 0, 0, 0, 2, 1, 1, 2, 0, 1, 2, 0, 1, 2, 2]
    assert joined(deal(feeds, order)) == list(range(4 * len(order)))
    for feed in feeds:
        feed.restore_state({"next_record": 40})
    assert joined(deal(feeds, [2, 0, 1, 2])) == list(range(40, 56))


def test_only_own_batches_are_read():
    sources = [Numbers() for _ in range(2)]
    feeds = [
        Feed(source, FeedSettings(4, Shard(r, 2, by_batch=True), prefetch=1))
        for r, source in enumerate(sources)
    ]
    deal(feeds, [0, 1] * 5)
    assert [source.reads for source in sources] == [5, 5]
    for feed in feeds:
        feed.close()
        with pytest.raises(DataError, match="closed"):
            feed.skip()


def test_foreseen_batches_are_read_ahead():
    source = Numbers()
    settings = FeedSettings(4, Shard(1, 3, by_batch=True), prefetch=2)
    feed = Feed(source, settings)
    for _ in range(6):
        feed.skip()
        take(feed, 1)
        feed.skip()
    feed.close()
    assert source.reads <= 6 + 2


def test_nothing_is_skipped_where_records_are_dealt(open_feed):
    feed = open_feed(shard=Shard(1, 2))
    feed.skip()
    assert take(feed, 1) == [[1, 3, 5, 7]]


def test_record_count(open_feed):
    assert open_feed(Numbers(size=77)).record_count == 77


def test_reading_when_asked_starts_no_thread():
    source = Numbers()
    feed = Feed(source, FeedSettings(batch_size=2, prefetch=0))
    take(feed, 3)
    assert source.threads == {threading.current_thread()}
    feed.close()


def test_reading_ahead_goes_on_while_the_consumer_works():
    source = Numbers()
    feed = Feed(source, FeedSettings(batch_size=2, prefetch=2))

    def becomes(reads):
        end = time.monotonic() + 10
        while source.reads < reads:
            assert time.monotonic() < end, "nothing is read before it is asked for"
            time.sleep(0.002)

    feed.next()
    becomes(2)  # one is lent, one read ahead
    feed.release()
    becomes(3)
    assert source.threads.isdisjoint({threading.current_thread()})
    feed.close()


def test_no_batch_size():
    with pytest.raises(DataError, match="batch_size"):
        Feed(Numbers(), FeedSettings(batch_size=0))


def test_threads_for_decoding():
    assert 1 <= decoding_threads() <= 4
