"""Big arrays handed along a chain of ranks."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.comm import broadcast
from poseidon_caffe.comm.broadcast import Broadcaster
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError
from tests.comm.couriers import on_couriers

SHAPES = ((0,), (3,), (1, 1), (), (1000, 3), (7, 0, 2), (2, 5000), (1,))
DTYPES = (np.float32, np.float64, np.int64, np.uint8)


def arrays(seed):
    draw = np.random.default_rng(seed)
    return [
        draw.integers(0, 100, shape).astype(DTYPES[k % len(DTYPES)])
        for k, shape in enumerate(SHAPES)
    ]


def chained(size, members, rounds=2, **network):
    def play(courier):
        if courier.rank not in members:
            return None
        broadcaster = Broadcaster(courier, members)
        found = []
        for k in range(rounds):
            own = arrays((k, courier.rank))
            broadcaster.broadcast(own)
            found.append(own)
        return found

    found = on_couriers(size, play, **network)
    for rank in members:
        for k in range(rounds):
            expected = arrays((k, members[0]))
            for a, b in zip(found[rank][k], expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chunk_bytes", [64, 5000, 1 << 20])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_get_the_firsts(monkeypatch, size, chunk_bytes):
    monkeypatch.setattr(broadcast, "_CHUNK_BYTES", chunk_bytes)
    chained(size, tuple(range(size)), delay_s=(0, 3e-4), eager_bytes=300)


@pytest.mark.parametrize("members", [(2, 0, 3), (1,), (3, 1)])
def test_among_some(monkeypatch, members):
    monkeypatch.setattr(broadcast, "_CHUNK_BYTES", 500)
    chained(4, members, delay_s=(0, 3e-4), eager_bytes=-1)


@pytest.mark.parametrize("seed", range(4))
def test_small_chunks_that_finish_before_large_ones(seed):
    """They are passed on in the order in which the next rank awaits them."""
    sizes = (100_000, 1, 50_000, 1, 1, 70_000, 2)

    def play(courier):
        own = [np.full(n, k * (courier.rank == 0)) for k, n in enumerate(sizes)]
        Broadcaster(courier, range(4)).broadcast(own)
        return [set(array.tolist()) for array in own]

    settings = ClusterSettings(row_bytes=1000)
    found = on_couriers(
        4, play, settings=settings, delay_s=(0, 0.002), eager_bytes=64, seed=seed
    )
    assert found == [[{k} for k in range(len(sizes))]] * 4


def test_more_than_a_chunk_of_bytes():
    big = np.random.default_rng(0).integers(0, 256, 3_500_001).astype(np.uint8)

    def play(courier):
        own = big.copy() if courier.rank == 0 else np.zeros_like(big)
        Broadcaster(courier, (0, 1, 2)).broadcast([own])
        return np.array_equal(own, big)

    assert on_couriers(3, play) == [True] * 3


def test_a_view_with_gaps_is_refused():
    def play(courier):
        with pytest.raises(ClusterError, match=r"contiguous.*\(3, 2\)"):
            Broadcaster(courier, (0,)).broadcast([np.zeros((3, 4))[:, ::2]])

    on_couriers(1, play)


def test_nothing_at_all():
    on_couriers(2, lambda courier: Broadcaster(courier, (0, 1)).broadcast([]))
