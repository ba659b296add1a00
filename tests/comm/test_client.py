"""Rows from end to end: the very bits of one process, whatever the network does."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Tiny, alone, trained

ITERATIONS = 4


def check(size, settings, *, make=Tiny, passes=1, iterations=ITERATIONS, **network):
    """Every worker holds what one process would."""
    workers = size - settings.servers
    expected = alone(make(), workers, iterations, passes)
    found = trained(
        size, settings, iterations, passes=passes, make=make, **network
    )[:workers]  # fmt: skip
    for tiny in found:
        np.testing.assert_array_equal(tiny.state(), expected)


def rows(**changes):
    return ClusterSettings(svb="off", **changes)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_as_one_process(size, seed):
    make = functools.partial(Tiny, statistics=True)
    check(size, rows(), make=make, seed=seed, delay_s=(0, 0.002), eager_bytes=-1)


@pytest.mark.parametrize("row_bytes", [64, 600, 1 << 20])
@pytest.mark.parametrize("seed", range(2))
def test_many_rows_and_one(row_bytes, seed):
    make = functools.partial(Tiny, widths=(7, 30, 5, 11), statistics=True)
    check(
        3, rows(row_bytes=row_bytes), make=make, iterations=3,
        seed=seed, delay_s=(0, 0.001), eager_bytes=300,
    )  # fmt: skip


def test_float32():
    make = functools.partial(Tiny, dtype=np.float32, statistics=True)
    check(3, rows(), make=make, delay_s=(0, 0.001))


def test_several_passes():
    make = functools.partial(Tiny, statistics=True)
    check(3, rows(), make=make, passes=3, delay_s=(0, 0.001))


@pytest.mark.parametrize("servers", [0, 2])
def test_without_overlap(servers):
    make = functools.partial(Tiny, statistics=True)
    check(4, rows(overlap=False, servers=servers), make=make, delay_s=(0, 0.001))


def test_under_a_cap():
    check(2, rows(bandwidth_mbps=200.0), iterations=2)


def test_one_slow_link():
    def delay_s(source, peer, tag, size_bytes):
        return 0.004 if (source, peer) == (2, 1) else 0.0

    check(3, rows(), delay_s=delay_s, eager_bytes=-1)


def test_nothing_but_statistics():
    check(3, rows(), make=functools.partial(Tiny, widths=(3,), statistics=True))


@pytest.mark.parametrize("k", range(12))
def test_any_order_of_events(k):
    """Many seeds, small nets: what a race would need."""
    draw = np.random.default_rng(k)
    widths = tuple(int(n) for n in draw.integers(1, 40, 4))
    settings = rows(
        row_bytes=int(draw.choice([0, 100, 1000])),
        servers=int(draw.integers(0, 2)),
        overlap=bool(draw.integers(0, 2)),
        force_ssp=bool(draw.integers(0, 2)),
    )
    check(
        int(draw.integers(2, 5)), settings,
        make=functools.partial(Tiny, widths=widths, statistics=True),
        passes=int(draw.integers(1, 3)), iterations=3, seed=k,
        delay_s=(0, float(draw.choice([0, 3e-4, 3e-3]))),
        eager_bytes=int(draw.choice([-1, 100, 1 << 20])),
    )  # fmt: skip
