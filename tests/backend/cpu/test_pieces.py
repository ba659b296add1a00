"""Work that each thread does piece by piece."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.pieces import (
    PIECE_COUNT,
    row_squares,
    sum_of,
    sum_of_squares,
)


@pytest.mark.parametrize("size", [0, 5, 1024, 5000])
def test_sums_of_flat_arrays(rng, size):
    x = rng.standard_normal(size).astype(np.float32)
    wide = x.astype(float)
    assert math.isclose(sum_of(x), wide.sum(), rel_tol=1e-5, abs_tol=1e-5)
    assert math.isclose(sum_of_squares(x), wide @ wide, rel_tol=1e-6)


def test_squares_of_rows(rng):
    x = rng.standard_normal((7, 300)).astype(np.float32)
    want = (x.astype(float) ** 2).sum(axis=1)
    np.testing.assert_allclose(row_squares(x), want, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 100, 2 * PIECE_COUNT])
@pytest.mark.parametrize("pieces", [0, 1, 2, 5.5])
def test_pieces_are_all_and_fit_their_room(ops, length, pieces):
    count = int(pieces * max(1, PIECE_COUNT // length))
    seen, threads = np.zeros(count, int), set()

    def piece(part, room):
        seen[part] += 1
        threads.add(threading.get_ident())
        assert room.size == (part.stop - part.start) * length
        return 0.5

    total = ops._sum_pieces(count, piece, length)
    assert (seen == 1).all()
    assert total >= 0.5 * min(count, pieces)
    assert len(threads) <= ops.threads


def test_threads_are_what_they_were_after_a_failure(ops):
    set_threads, asked = ops.dnnl.set_threads, []

    def fail(part, room):
        raise ZeroDivisionError

    ops.dnnl.set_threads = lambda n: (asked.append(n), set_threads(n))
    try:
        with pytest.raises(ZeroDivisionError):
            ops._sum_pieces(4 * PIECE_COUNT, fail)
    finally:
        del ops.dnnl.set_threads
    assert asked[-1] == ops.threads
    assert set(asked[:-1]) == {1}
