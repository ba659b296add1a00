"""Which batch a device has room for; tests/solver/test_gpu_memory.py trains at it."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.memory import NoRoomError
from poseidon_caffe.errors import LayerError
from poseidon_caffe.net.blame import blaming_parameters, blaming_tops
from poseidon_caffe.net.room import batch_that_fits, largest_batch, parameters_fit
from tests.net.support import SMALL, make_net


@pytest.mark.parametrize(
    ("batch_bytes", "fixed_bytes", "total", "fits"),
    [
        (1000, 100, 600, 5),
        (1000, 100, 5000, 10),
        (1000, 600, 600, 0),
        (1000, 100, 199, 0),
        (0, 100, 600, 0),
    ],
)
def test_the_largest_batch(batch_bytes, fixed_bytes, total, fits):
    assert largest_batch(10, batch_bytes, fixed_bytes, total) == fits


def test_parameters_need_room_for_gradients_and_history():
    assert parameters_fit(100, 400)
    assert not parameters_fit(100, 399)


@pytest.mark.parametrize("planned", [False, True])
def test_an_estimate_is_below_the_batch_that_failed(planned):
    net = make_net(SMALL, share_memory=planned)
    parameters = 4 * sum(blob.count for blob in net.learnable)
    blobs = 2 * 4 * sum(blob.count for blob in net.blobs.values())
    last = 4
    for room in (20 * parameters, 10 * parameters, 8 * parameters):
        net.room_bytes = room
        error = NoRoomError(blobs + 10 * room, room // 2, room)
        fits = batch_that_fits(net, 4, error)
        assert 0 <= fits < 4
        assert fits <= last
        last = fits


def test_the_layer_with_the_most_is_named():
    net = make_net(SMALL)
    with (
        pytest.raises(LayerError, match="at layer 'f': wanted"),
        blaming_parameters(net),
    ):
        raise NoRoomError(10**6, 100, 1000)
    with pytest.raises(LayerError, match=r"at layer '[cr]': wanted"), blaming_tops(net):
        raise NoRoomError(10**6, 100, 1000)
    with pytest.raises(LayerError, match="does not fit in memory"), blaming_tops(net):
        raise MemoryError
