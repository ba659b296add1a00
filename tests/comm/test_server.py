"""Owners of rows: they alone apply the rule, once a clock, in order."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest

from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.delivery import DirectDelivery
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.rows import cut
from poseidon_caffe.comm.server import RowServer
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.tags import gradient_tag, values_tag
from tests.comm.couriers import on_couriers
from tests.comm.support import Tiny, alone, drive, together, trained

ITERATIONS = 3


@pytest.mark.parametrize("servers", [1, 2, 3])
@pytest.mark.parametrize("is_stale", [False, True])
def test_servers_that_only_serve(servers, is_stale):
    size = servers + 2
    make = functools.partial(Tiny, statistics=True)
    settings = ClusterSettings(svb="off", servers=servers, force_ssp=is_stale)
    found = trained(size, settings, ITERATIONS, make=make, delay_s=(0, 0.001))
    expected = alone(make(), 2, ITERATIONS)
    for tiny in found[:2]:
        np.testing.assert_array_equal(tiny.state(), expected)
        assert not tiny.updater.applied, "workers apply nothing"


@pytest.mark.parametrize("settings", [
    ClusterSettings(svb="off", row_bytes=900),
    ClusterSettings(svb="off", row_bytes=900, servers=2),
    ClusterSettings(svb="off", row_bytes=900, force_ssp=True),
])  # fmt: skip
def test_the_rule_is_applied_once_a_clock_by_the_owner(settings):
    def work(rank, cluster):
        tiny = Tiny()
        attached = cluster.attach(tiny.model())
        if attached.sync is None:
            cluster.serve()
        else:
            drive(tiny, attached, rank, ITERATIONS)
        own = [
            piece.slot
            for row in attached.plan.rows
            if row.owner == rank
            for piece in row.pieces
        ]
        return tiny.updater.applied, own

    for applied, own in together(4, settings, work, delay_s=(0, 0.001)):
        expected = Counter({(i, slot): 0 for i in range(ITERATIONS) for slot in own})
        for iteration in range(ITERATIONS):
            expected.update((iteration, slot) for slot in own)
        assert Counter(applied) == expected
        clocks = [iteration for iteration, _ in applied]
        assert clocks == sorted(clocks) or settings.force_ssp or settings.overlap


def test_each_rows_clocks_come_in_order():
    def work(rank, cluster):
        tiny = Tiny()
        drive(tiny, cluster.attach(tiny.model()), rank, 6)
        return tiny.updater.applied

    for applied in together(3, ClusterSettings(svb="off"), work, delay_s=(0, 0.002)):
        for slot in {slot for _, slot in applied}:
            clocks = [iteration for iteration, each in applied if each == slot]
            assert clocks == sorted(clocks)


class Bench:
    """One server (rank 2) of two workers, whose sides the test plays."""

    def __init__(self, courier):
        self.courier, self.tiny = courier, Tiny(widths=(4, 3))
        roles = Roles.of(courier.rank, 3, 1)
        self.model = self.tiny.model()
        dtypes = dict.fromkeys(range(2), "float64")
        self.rows = cut(
            self.tiny.slots, dtypes, roles.servers, merge_bytes=0, row_bytes=64
        )
        if courier.rank == 2:
            delivery = DirectDelivery(courier, self.rows, self.model, roles, None)
            self.server = RowServer(
                courier, self.rows, self.model, roles, delivery, None
            )
            courier.call(self.server.open)

    def wait(self, condition):
        self.courier.wait_for(condition, Waiting("a test"))


def test_missing_names_late_workers_row_by_row():
    def play(courier):
        bench = Bench(courier)
        got = []
        if courier.rank < 2:
            # Worker 0 sends all rows, worker 1 keeps the first back for a while.
            for row in bench.rows[courier.rank :]:
                values = np.full(row.count, 1.0)
                tag = gradient_tag(row.index)
                courier.call(lambda t=tag, v=values: courier.send(2, t, v))
            word = np.zeros(1)
            if courier.rank == 1:
                courier.call(lambda: courier.receive(2, 9, word, lambda: got.append(1)))
                bench.wait(lambda: bool(got))
                first = np.full(bench.rows[0].count, 2.0)
                courier.call(lambda: courier.send(2, gradient_tag(0), first))
            last = np.zeros(bench.rows[0].count)
            courier.call(
                lambda: courier.receive(2, values_tag(0), last, lambda: got.append(2))
            )
            bench.wait(lambda: 2 in got)
            return last

        states = bench.server.states
        late = lambda: [w for _, w in bench.server.missing()]  # noqa: E731
        everybody = [[0, 1]] * len(bench.rows)
        bench.wait(lambda: all(states[r.index].version for r in bench.rows[1:]))
        # The others have begun their next clock, of which nobody has sent anything.
        bench.wait(lambda: late() == [[1], *everybody[1:]])
        assert [row for row, _ in bench.server.missing()] == bench.rows
        courier.call(lambda: courier.send(1, 9, np.zeros(1)))
        bench.wait(lambda: late() == everybody)
        return np.concatenate([state.reshape(-1) for state in states[0].master])

    first, second, master = on_couriers(3, play)
    np.testing.assert_array_equal(first, master)
    np.testing.assert_array_equal(second, master)
