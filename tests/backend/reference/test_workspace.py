from __future__ import annotations

import threading

import numpy as np

from poseidon_caffe.backend.reference.workspace import Workspace, same_memory


def test_memory_is_used_again_and_grows():
    space, real = Workspace(), np.dtype(np.float32)
    first = space.take("columns", (4, 5), real)
    again = space.take("columns", (2, 3), real)
    assert np.shares_memory(first, again)
    assert again.shape == (2, 3)
    assert space.take("columns", (40, 5), real).size == 200
    assert not np.shares_memory(
        space.take("columns", (4,), real), space.take("padded", (4,), real)
    )
    assert space.take("columns", (4,), np.dtype(np.float64)).dtype == np.float64


def test_threads_have_their_own():
    space, real = Workspace(), np.dtype(np.float32)
    here = space.take("columns", (4,), real)
    there = []
    thread = threading.Thread(
        target=lambda: there.append(space.take("columns", (4,), real))
    )
    thread.start()
    thread.join()
    assert not np.shares_memory(here, there[0])


def test_same_memory_means_the_very_same_elements():
    x = np.zeros((4, 4))
    assert same_memory(x, x[:])
    assert same_memory(x[1:, 2:], x[1:, 2:])
    assert not same_memory(x, x.T)
    assert not same_memory(x, x.copy())
    assert not same_memory(x, x[:2])
