"""What a solver asks of its workers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Tiny, drive, together

BSP = ClusterSettings(svb="off")
SSP = ClusterSettings(svb="off", staleness=2)


def attached_to(play, size=3, settings=BSP, **network):
    """``play(sync, rank, observer, tiny)`` on each worker."""

    def work(rank, cluster):
        tiny = Tiny(widths=(4, 3))
        attached = cluster.attach(tiny.model())
        if attached.sync is None:
            cluster.serve()
            return None
        found = play(attached.sync, rank, attached, tiny)
        attached.sync.finish()
        return found() if callable(found) else found

    return together(size, settings, work, **network)


@pytest.mark.parametrize("settings", [BSP, SSP])
def test_the_mean_is_told_on_rank_0(settings):
    def play(sync, rank, attached, tiny):
        told = []
        for k in range(6):
            if rank == 2:
                time.sleep(0.002)
            values = np.arange(3.0) + 10 * rank + 100 * k
            sync.average(values, lambda mean: told.append(mean.tolist()))
        if rank:
            assert len(told) == 6, "others hear their own at once"
        return lambda: told

    found = attached_to(play, settings=settings, delay_s=(0, 1e-3))
    for rank, told in enumerate(found):
        shift = 10 * (rank or 1)
        expected = [(np.arange(3.0) + shift + 100 * k).tolist() for k in range(6)]
        assert told == expected, "in order, none lost at the end"


def test_with_staleness_a_mean_waits_for_nobody():
    passed = threading.Event()

    def play(sync, rank, attached, tiny):
        told = []
        if rank:
            assert passed.wait(10)
        sync.average(np.full(2, float(rank)), lambda mean: told.append(mean.tolist()))
        if not rank:
            assert told == []
            passed.set()
        return lambda: told

    assert attached_to(play, 2, SSP)[0] == [[0.5, 0.5]]


def test_long_lists_of_values_with_staleness():
    """Many display outputs: more than a frame of the board holds."""

    def play(sync, rank, attached, tiny):
        told = []
        for k in range(12):
            size = 1000 if k % 2 else 3
            sync.average(np.full(size, float(k + rank)), told.append)
        return lambda: [(mean.size, set(mean.tolist())) for mean in told]

    for seed in range(3):
        found = attached_to(play, 3, SSP, seed=seed, delay_s=(0, 1e-3), eager_bytes=0)
        assert found[0] == [(1000 if k % 2 else 3, {k + 1.0}) for k in range(12)]


def test_the_mean_of_lists_that_differ_in_length():
    def play(sync, rank, attached, tiny):
        told = []
        sync.average(np.arange(4.0 - rank), told.append)
        return [mean.tolist() for mean in told]

    assert attached_to(play, 2) == [[[0, 1, 2]], [[0, 1, 2]]]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_scores_are_added_as_one_process_does(size, count):
    draw = np.random.default_rng(count)
    scores = draw.normal(size=(count, 5)) * 10.0 ** draw.integers(-8, 8, (count, 5))

    def play(sync, rank, attached, tiny):
        own = [scores[k] for k in range(rank, count, size)]
        return sync.sum_in_order(own, count)

    expected = np.zeros(5) if count else np.zeros(0)
    for score in scores:
        expected = expected + score
    for found in attached_to(play, size):
        np.testing.assert_array_equal(found, expected)


def test_items_are_gathered_as_json():
    def play(sync, rank, attached, tiny):
        item = {"rank": rank, "text": "é" * 2000, "state": [0, 1.5, None]}
        with pytest.raises(TypeError):
            sync.gather({"what": np.int64(3)})
        return sync.gather(item)

    first, *others = attached_to(play)
    assert first == [
        {"rank": rank, "text": "é" * 2000, "state": [0, 1.5, None]} for rank in range(3)
    ]
    assert others == [None, None]


def test_nothing_is_updated_by_the_solver():
    def play(sync, rank, attached, tiny):
        return [sync.updates_locally(slot.index) for slot in tiny.slots]

    assert attached_to(play, 2) == [[False, False]] * 2


@pytest.mark.parametrize("settings", [BSP, SSP, ClusterSettings(svb="on")])
def test_wait_makes_values_fresh(settings):
    """After it all workers hold the same values, whatever the staleness."""

    def play(sync, rank, attached, tiny):
        states = []
        for _ in range(3):
            drive(tiny, attached, rank, 2)
            states.append(tiny.state())
        return states

    first, *others = attached_to(play, settings=settings, delay_s=(0, 1e-3))
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("staleness", [0, 2])
def test_requests_come_back_in_the_same_iteration(staleness):
    settings = ClusterSettings(svb="off", staleness=staleness)

    def play(sync, rank, attached, tiny):
        found = []
        for k in range(8):
            attached.observer.iteration += 1
            bits = (rank == 1 and k == 2) * 1 + (rank == 0 and k == 4) * 2
            found.append(sync.agree(bits))
        attached.observer.iteration -= 8
        return found

    late = 1 + staleness
    expected = [0] * 8
    expected[2 + late], expected[4 + late] = 1, 2
    assert attached_to(play, settings=settings) == [expected] * 3
