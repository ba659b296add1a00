"""Rows seen in the parameters' own memory."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.comm.memory import RowMemory, ServedBlob, pack, unpack
from poseidon_caffe.comm.rows import Piece, Row


@pytest.fixture
def blobs():
    blobs = [Blob((4, 5)), Blob((6,))]
    for k, blob in enumerate(blobs):
        blob.data[...] = np.arange(blob.count).reshape(blob.shape) + 100 * k
        blob.diff[...] = -blob.data
    return blobs


def row(*pieces, is_mean=False):
    return Row(0, 0, tuple(Piece(*each) for each in pieces), 0, is_mean, "float32")


ONE, TWO = ((0, 3, 9),), ((0, 17, 20), (1, 1, 4))


def test_a_row_of_one_piece_is_not_copied(blobs):
    memory = RowMemory(row(*ONE), blobs)
    flat, gradient = blobs[0].data.reshape(-1), blobs[0].diff.reshape(-1)
    np.testing.assert_array_equal(memory.contribution(), gradient[3:9])
    assert np.shares_memory(memory.contribution(), gradient[3:9])
    for view in (memory.values(), memory.target()):
        assert np.shares_memory(view, flat[3:9])
    memory.target()[...] = 7
    memory.take(memory.target())
    assert (flat[3:9] == 7).all()
    assert flat[2] == 2
    assert flat[9] == 9


def test_a_row_of_several_pieces_is_packed_in_their_order(blobs):
    memory = RowMemory(row(*TWO), blobs)
    assert memory.contribution().tolist() == [-17, -18, -19, -101, -102, -103]
    assert memory.values().tolist() == [17, 18, 19, 101, 102, 103]
    target = memory.target()
    target[...] = range(6)
    assert blobs[0].data[3, 4] == 19, "not in place before take"
    memory.take(target)
    assert blobs[0].data[3, 2:].tolist() == [0, 1, 2]
    assert blobs[1].data.tolist() == [100, 3, 4, 5, 104, 105]


def test_values_from_elsewhere_are_copied_in(blobs):
    RowMemory(row(*ONE), blobs).take(np.arange(6, dtype=np.float32))
    assert blobs[0].data.reshape(-1)[3:9].tolist() == [0, 1, 2, 3, 4, 5]


def test_statistics_contribute_values_and_are_sent_from_a_copy(blobs):
    """The next forward changes the values while they are being sent."""
    for pieces in (ONE, TWO):
        memory = RowMemory(row(*pieces, is_mean=True), blobs)
        np.testing.assert_array_equal(memory.contribution(), memory.values())
        sent = memory.values()
        before = sent.copy()
        blobs[0].data[...] = -1
        blobs[1].data[...] = -1
        np.testing.assert_array_equal(sent, before)


def test_a_gradient_that_nobody_wrote_is_zero(blobs):
    memory = RowMemory(row(*TWO), blobs)
    memory.contribution()
    blobs[0].clear_diff()
    assert memory.contribution().tolist() == [0, 0, 0, -101, -102, -103]
    blobs[0].diff[...] = 5
    one = RowMemory(row(*ONE), blobs)
    blobs[0].clear_diff()
    assert not one.contribution().any()


def test_pack_and_unpack():
    parts = [np.arange(3.0), np.arange(0.0), np.arange(2.0) + 10]
    whole = pack(parts, np.empty(5))
    assert whole.tolist() == [0, 1, 2, 10, 11]
    unpack(2 * whole, parts)
    assert [part.tolist() for part in parts] == [[0, 2, 4], [], [20, 22]]


def test_what_a_server_updates_is_the_blobs_host_memory(blobs):
    served = ServedBlob(blobs[0])
    memory = RowMemory(row(*ONE), [served])
    memory.target()[...] = 7
    assert (blobs[0].cpu_data.reshape(-1)[3:9] == 7).all()
    assert served.data is served.mutable_cpu_data
    assert served.dtype == np.float32


def test_gradients_that_nobody_sends_take_no_memory():
    class Lazy(Blob):
        @property
        def diff(self):
            raise AssertionError("nobody asked for it")

    memory = RowMemory(row((0, 3, 9)), [Lazy((4, 5))])
    memory.take(np.ones(6, np.float32))
    assert memory.values().tolist() == [1] * 6
