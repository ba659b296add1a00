"""Copies within one memory are made at once."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.reference import ReferenceOps


def test_copies_are_over_at_once():
    ways = ReferenceOps().transfers()
    source = np.arange(6, dtype=np.float32)
    target = ways.pinned(6, np.float32)
    assert not target.any()
    moment = ways.fetch(source, target)
    np.testing.assert_array_equal(target, source)
    ways.hold(moment)
    moment.wait()
    assert moment.done()
    ways.store(source + 1, target, moment)
    np.testing.assert_array_equal(target, source + 1)
    ways.snap(source.reshape(2, 3).T, target)
    np.testing.assert_array_equal(target, [0, 3, 1, 4, 2, 5])
    room = ways.room(6, np.float32)
    assert not room.any()
    assert ways.keep(source.reshape(2, 3).T, room).done()
    np.testing.assert_array_equal(room, [0, 3, 1, 4, 2, 5])
    assert ways.now().done()
