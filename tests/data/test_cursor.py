from __future__ import annotations

import pytest

from poseidon_caffe.data.cursor import CursorDatabase
from poseidon_caffe.errors import DataError


class Listing:
    """A cursor over a list that counts its steps."""

    def __init__(self, size):
        self.keys = [b"%06d" % i for i in range(size)]
        self.place = self.steps = self.seeks = 0

    def first(self):
        self.place = 0
        return bool(self.keys)

    def seek(self, key):
        self.seeks += 1
        self.place = self.keys.index(key)
        return True

    def next(self):
        self.steps += 1
        self.place += 1
        return self.place < len(self.keys)

    def key(self):
        return self.keys[self.place]

    def value(self):
        return self.keys[self.place][::-1]


def test_going_forward_steps_and_never_seeks():
    cursor = Listing(5000)
    database = CursorDatabase("x", cursor, 5000)
    assert database.records(range(0, 5000, 7)) == [
        key[::-1] for key in cursor.keys[::7]
    ]
    assert cursor.seeks == 0
    assert cursor.steps < 5000


def test_going_back_takes_a_short_way():
    cursor = Listing(5000)
    database = CursorDatabase("x", cursor, 5000)
    database.record(4999)
    for index in (0, 4999, 1023, 1024, 3000, 2999):
        before = cursor.steps
        assert database.record(index) == cursor.keys[index][::-1]
        assert database.key(index) == cursor.keys[index]
        assert cursor.steps - before < 1024


def test_a_store_that_ends_early_is_an_error():
    database = CursorDatabase("place", Listing(3), 5)
    with pytest.raises(DataError, match="place: record 3 of 5 cannot be reached"):
        database.record(4)


@pytest.mark.parametrize("index", [-1, 5])
def test_there_are_no_other_records(index):
    with pytest.raises(DataError, match="only 5 records"):
        CursorDatabase("x", Listing(5), 5).record(index)


def test_nothing_is_read_after_closing():
    database = CursorDatabase("x", Listing(5), 5)
    database.close()
    database.close()
    with pytest.raises(DataError, match="closed"):
        database.record(0)


def test_empty():
    with pytest.raises(DataError, match="is empty"):
        CursorDatabase("x", Listing(0), 0)
