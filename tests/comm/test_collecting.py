"""Histories that lie with the owners of rows come to rank 0."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Tiny, alone, drive, together

ITERATIONS = 3


class TwoMoments(Tiny):
    """Its rule has two histories; the second is minus the first."""

    def __post_init__(self):
        super().__post_init__()
        updater, second = self.updater, [np.zeros(b.count) for b in self.blobs]
        apply = updater.apply

        def both(iteration, pieces, scale):
            for piece in pieces:
                first, minus = piece.history
                apply(
                    iteration, [type(piece)(0, piece.data, piece.diff, (first,))], scale
                )
                minus[...] = -first

        updater.history_count = 2
        updater.history_of = lambda slot: (updater.history[slot], second[slot])
        updater.apply = both


@pytest.mark.parametrize("make", [Tiny, TwoMoments])
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (1, ClusterSettings()),
        (2, ClusterSettings(svb="off")),
        (3, ClusterSettings(svb="off", row_bytes=300)),
        (4, ClusterSettings(svb="on", row_bytes=900)),
        (4, ClusterSettings(svb="off", servers=2)),
        (4, ClusterSettings(svb="off", servers=1, force_ssp=True)),
    ],
)
def test_rank_0_has_the_whole_history(size, settings, make):
    """Every time it is asked for, and the training goes on."""
    rounds, make = 2, functools.partial(make, dense=(1,), statistics=True)

    def work(rank, cluster):
        tiny = make()
        attached = cluster.attach(tiny.model())
        if attached.sync is None:
            cluster.serve()
            return None
        found = []
        for _ in range(rounds):
            drive(tiny, attached, rank, ITERATIONS)
            attached.sync.collect_history()
            slots = [slot.index for slot in tiny.slots if not slot.statistics]
            found += [[array.copy() for array in tiny.updater.history_of(s)]
                      for s in slots]  # fmt: skip
        return found

    found = together(size, settings, work, delay_s=(0, 1e-3), eager_bytes=200)[0]
    one, expected = Tiny(dense=(1,), statistics=True), []
    for count in (ITERATIONS, 2 * ITERATIONS):
        one = Tiny(dense=(1,), statistics=True)
        alone(one, size - settings.servers, count)
        expected += one.updater.history[:-1]
    assert any(array.any() for array in expected)
    for arrays, first in zip(found, expected, strict=True):
        np.testing.assert_allclose(arrays[0], first, rtol=1e-9, atol=1e-12)
        for second in arrays[1:]:
            np.testing.assert_array_equal(second, -arrays[0])


def test_a_rule_without_history():
    def work(rank, cluster):
        tiny = Tiny()
        tiny.updater.history_count = 0
        attached = cluster.attach(tiny.model())
        attached.sync.collect_history()
        return True

    assert together(2, ClusterSettings(svb="off"), work) == [True, True]
