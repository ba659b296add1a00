from __future__ import annotations

import threading

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.shares import in_shares
from poseidon_caffe.backend.threads import ThreadPool


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("count", "step"), [(0, 4), (3, 4), (4, 4), (5, 4), (101, 7)])
def test_every_thing_once_in_pieces_of_a_thread_each(dnnl, threads, count, step):
    done, lock = np.zeros(count, int), threading.Lock()
    seen: dict[int, set[int]] = {}

    def work(thread: int, part: slice) -> None:
        assert part.stop - part.start <= step
        with lock:
            done[part] += 1
            seen.setdefault(thread, set()).add(threading.get_ident())

    pool = ThreadPool(threads)
    try:
        in_shares(pool, dnnl, count, step, work)
    finally:
        pool.close()
        dnnl.set_threads(2)
    assert (done == 1).all()
    assert set(seen) <= set(range(threads))
    assert all(len(idents) == 1 for idents in seen.values())


def test_a_failure_is_raised_and_the_librarys_threads_come_back(dnnl, monkeypatch):
    asked = []
    monkeypatch.setattr(dnnl, "set_threads", asked.append)

    def work(thread: int, part: slice) -> None:
        raise ValueError(part)

    pool = ThreadPool(2)
    try:
        with pytest.raises(ValueError, match="slice"):
            in_shares(pool, dnnl, 8, 1, work)
    finally:
        pool.close()
    assert asked[-1] == 2
    assert asked.count(1) == 2
