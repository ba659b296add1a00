"""Clipping: one norm over rows and factors of all ranks, one factor everywhere."""

from __future__ import annotations

import functools
import threading
from collections import defaultdict

import numpy as np
import pytest

from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.tags import NORM_ROWS
from tests.comm.couriers import on_couriers
from tests.comm.support import Tiny, alone, trained

CASES = {
    "rows": (3, ClusterSettings(svb="off"), {}),
    "small rows": (3, ClusterSettings(svb="off", row_bytes=300), {}),
    "factors": (3, ClusterSettings(svb="on"), {}),
    "mixed": (3, ClusterSettings(svb="on"), {"dense": (1,), "statistics": True}),
    "alone": (1, ClusterSettings(svb="on"), {"dense": (1,)}),
    "one server": (4, ClusterSettings(svb="off", servers=1), {"statistics": True}),
    "servers, factors": (4, ClusterSettings(svb="on", servers=2), {"dense": (2,)}),
    "servers, no row": (4, ClusterSettings(svb="on", servers=2), {}),
    "more servers than rows": (4, ClusterSettings(svb="off", servers=3),
                               {"widths": (3, 1)}),
    "still rows": (3, ClusterSettings(svb="off", row_bytes=700), {"still": (0, 3)}),
    "still beside factors": (3, ClusterSettings(svb="on"), {"still": (0, 3)}),
    "forced": (3, ClusterSettings(svb="off", row_bytes=700),
               {"still": (1,), "frozen": (0, 3), "is_forced": True}),
    "forced beside factors": (3, ClusterSettings(svb="on"),
                              {"frozen": (0, 3), "is_forced": True,
                               "statistics": True}),
    "forced, a server": (4, ClusterSettings(svb="auto", servers=1),
                         {"frozen": (0, 1, 2, 3, 4, 5), "is_forced": True}),
    "not forced": (3, ClusterSettings(svb="off"), {"frozen": (0, 3)}),
    "versions": (3, ClusterSettings(svb="off", force_ssp=True), {}),
    "at once": (3, ClusterSettings(svb="on", overlap=False), {"dense": (0,)}),
}  # fmt: skip


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_clipped_as_in_one_process(name, passes):
    size, settings, tiny = CASES[name]
    workers, iterations = size - settings.servers, 5
    make = functools.partial(Tiny, **tiny)
    # So that some iterations are clipped and others are not.
    free = make()
    alone(free, workers, iterations, passes)
    limit = float(np.mean(sorted(free.norms)[2:4]))
    one = make()
    expected = alone(one, workers, iterations, passes, limit)
    told = defaultdict(list)

    def on_clip(*event):
        told[threading.get_ident()].append(event)

    found = trained(
        size, settings, iterations, passes=passes, clip=limit, make=make,
        on_clip=on_clip, delay_s=(0, 5e-4), seed=passes,
    )  # fmt: skip
    for worker in found[:workers]:
        np.testing.assert_allclose(worker.state(), expected, rtol=1e-9, atol=1e-12)
    clipped = [
        (k, norm, limit / norm) for k, norm in enumerate(one.norms) if norm > limit
    ]
    assert 0 < len(clipped) < iterations
    assert len(told) == workers, "every worker's main thread, nobody else's"
    first, *others = told.values()
    np.testing.assert_allclose(first, clipped, rtol=1e-9)
    assert all(other == first for other in others), "the same bits"


def test_the_last_norm_is_told_though_a_part_of_it_comes_late():
    """One of two servers tells worker 1 its part long after the other's values came."""

    def delay_s(source, peer, tag, size_bytes):
        return 0.03 * ((source, peer, tag) == (3, 1, NORM_ROWS))

    told = defaultdict(list)
    trained(
        4, ClusterSettings(svb="off", servers=2), 2, clip=1.0, delay_s=delay_s,
        make=functools.partial(Tiny, widths=(3, 1)),
        on_clip=lambda k, *_: told[threading.get_ident()].append(k),
    )  # fmt: skip
    assert list(told.values()) == [[0, 1]] * 2


def test_nothing_is_told_while_the_norm_is_in_bounds():
    told = []
    make = functools.partial(Tiny, dense=(0,))
    trained(
        2, ClusterSettings(svb="on"), 3, make=make, clip=1e9,
        on_clip=lambda *event: told.append(event),
    )  # fmt: skip
    assert told == []


@pytest.mark.parametrize("size", [1, 3])
def test_nothing_that_could_be_clipped(size):
    """Statistics alone, everything else frozen."""
    make = functools.partial(Tiny, widths=(3,), statistics=True)
    found = trained(size, ClusterSettings(), 3, make=make, clip=1.0)
    for tiny in found:
        np.testing.assert_array_equal(tiny.state(), alone(make(), size, 3))


def test_parts_are_added_in_one_order_though_they_come_in_any():
    clocks = 20

    def part(rank, clock):
        return 10.0 ** ((7 * rank + 3 * clock) % 13) * (1 + rank / 7)

    def play(courier):
        roles = Roles.of(courier.rank, 4, 0)
        board = NormBoard(courier, roles, 1e-3, with_factors=True, clock=0)
        found = []

        def known(factor):
            found.append(factor)
            if board.clock < clocks:
                tell()

        def tell():
            board.rows_done(board.clock, part(courier.rank, board.clock))

        def begin():
            board.on_known = known
            board.open()
            tell()
            for clock in range(clocks):
                board.factors_done(clock, part(9, clock))

        courier.call(begin)
        courier.wait_for(lambda: len(found) == clocks, Waiting("a test"))
        return found, [norm for _, norm, _ in board.events]

    found = on_couriers(4, play, delay_s=(0, 1e-3))
    assert all(each == found[0] for each in found)
    expected = [
        np.sqrt(sum(part(rank, clock) for rank in (0, 1, 2, 3, 9))) / 4
        for clock in range(clocks)
    ]
    np.testing.assert_allclose(found[0][1], expected)
