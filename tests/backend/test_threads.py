from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from poseidon_caffe.backend import threads
from poseidon_caffe.backend.threads import ThreadPool, available_cores, default_threads


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_work_is_done_before_run_returns(count):
    pool, done = ThreadPool(count), []
    pool.run([lambda i=i: done.append(i) for i in range(50)])
    assert sorted(done) == list(range(50))
    pool.run([])
    pool.close()
    pool.run([lambda: done.append(-1), lambda: done.append(-2)])
    assert {-1, -2} <= set(done)
    pool.close()


def test_pieces_run_at_once():
    pool, meet = ThreadPool(2), threading.Barrier(2)
    pool.run([lambda: meet.wait(20) and None] * 2)
    pool.close()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_is_raised_once_all_have_ended(failing):
    pool, done = ThreadPool(2), []

    def piece(i):
        if i == failing:
            raise ValueError(f"piece {i}")
        done.append(i)

    with pytest.raises(ValueError, match=f"piece {failing}"):
        pool.run([lambda i=i: piece(i) for i in range(3)])
    assert len(done) == 2
    pool.close()


def test_numpy_error_state_reaches_the_threads():
    pool, seen = ThreadPool(2), []
    with np.errstate(over="ignore"):
        pool.run([lambda: seen.append(np.geterr()["over"])] * 4)
    assert seen == ["ignore"] * 4
    pool.close()


@pytest.mark.parametrize(("cores", "want"), [(1, 1), (2, 2), (3, 2), (16, 15)])
def test_one_core_is_kept_for_data_when_there_are_many(monkeypatch, cores, want):
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    assert default_threads() == want


def test_cores_follow_the_affinity():
    mine = os.sched_getaffinity(0)
    assert available_cores() == len(mine)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_many_pieces_run_once_each_in_order_within_a_thread(size, count):
    pool = ThreadPool(size)
    ran: list[tuple[int, int]] = []

    def piece(i):
        return lambda: ran.append((threading.get_ident(), i))

    pool.run_many([piece(i) for i in range(count)])
    assert sorted(i for _, i in ran) == list(range(count))
    for thread in {t for t, _ in ran}:
        mine = [i for t, i in ran if t == thread]
        assert mine == sorted(mine)
    pool.close()
