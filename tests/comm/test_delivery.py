"""Values sent from the master itself: whole, though the next clock comes soon."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from poseidon_caffe.comm.delivery import DirectDelivery
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.rows import Piece, Row
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.couriers import unstarted
from tests.comm.support import Tiny, alone, trained


@pytest.mark.parametrize("seed", range(4))
def test_statistics_are_averaged_though_forward_changes_them_meanwhile(seed):
    """The mean leaves late: by then the owner's own forward has changed its values."""
    make = functools.partial(Tiny, widths=(3, 2), statistics=True)
    settings = ClusterSettings(svb="off")
    found = trained(
        3, settings, 5, make=make, seed=seed, delay_s=(0, 0.004), eager_bytes=-1
    )
    for tiny in found:
        np.testing.assert_array_equal(tiny.state(), alone(make(), 3, 5))


def test_several_pieces_of_statistics():
    class Two(Tiny):
        """Its means are two slots, merged into one row."""

        def __post_init__(self):
            super().__post_init__()
            draw = np.random.default_rng(1)
            self._add(len(self.widths) - 1, 1, (11,), draw, statistics=True)
            self.updater.history.append(np.zeros(11))

        def statistics_step(self, worker, iteration):
            super().statistics_step(worker, iteration)
            self.blobs[-2].data[...] = 2 * self.blobs[-1].data

    settings = ClusterSettings(svb="off")
    make = functools.partial(Two, statistics=True)
    expected = alone(Tiny(statistics=True), 3, 4)
    for tiny in trained(
        3, settings, 4, make=make, delay_s=(0, 0.002), eager_bytes=-1
    ):  # fmt: skip
        learned = tiny.state()[: expected.size - 11]
        np.testing.assert_array_equal(learned, expected[:-11])
        first, second = (blob.data for blob in tiny.blobs[-2:])
        np.testing.assert_array_equal(first, 2 * second)


@pytest.fixture
def delivery():
    courier, *_ = unstarted(3)
    model = Tiny().model()
    rows = [
        Row(0, 0, (Piece(0, 10, 30),), 0, False, "float64"),
        Row(1, 1, (Piece(0, 30, 40),), 0, False, "float64"),
    ]
    told = []
    own = lambda *args: told.append(args)  # noqa: E731
    made = DirectDelivery(courier, rows, model, Roles.of(0, 3, 0), own)
    return made, rows, model, courier, told


def test_the_parameters_are_the_master(delivery):
    made, rows, model, _, _ = delivery
    (view,) = made.master(rows[0])
    assert np.shares_memory(view, model.blobs[0].data)
    assert view.size == 20


def test_each_worker_has_one_buffer_a_row(delivery):
    made, rows, *_ = delivery
    first = made.buffer(rows[0], 1)
    assert first.shape == (20,)
    assert first.dtype == np.float64
    made.free(rows[0], first)
    assert made.buffer(rows[0], 1) is first
    assert made.buffer(rows[0], 2) is not first


def test_the_worker_here_is_told_and_the_others_get_values(delivery):
    made, rows, _, courier, told = delivery
    made.deliver(rows[0], 7)
    assert told == [(0, 7, None)]
    courier._turn()
    assert [(peer, size) for peer, _, size in courier.transport.began] == [
        (1, 160), (2, 160),
    ]  # fmt: skip
