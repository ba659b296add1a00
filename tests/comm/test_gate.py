"""Where the main thread waits: for what, how new it is, and what it tells kernels."""

from __future__ import annotations

import functools
import threading
import time

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Tiny, drive, together

SETTINGS = {
    "rows": ClusterSettings(svb="off"),
    "factors": ClusterSettings(svb="on"),
    "versions": ClusterSettings(svb="off", force_ssp=True),
    "at once": ClusterSettings(svb="off", overlap=False),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_kernels_hear_of_new_values_before_each_forward(name):
    """Caches of weights go by `touch`: values that changed unheard would be stale."""
    size, iterations = 3, 4
    make = functools.partial(Tiny, statistics=True)

    def work(rank, cluster):
        tiny, seen = make(), {}
        versions = {}

        def look(iteration, layer):
            for slot in tiny.slots:
                if slot.owner == layer:
                    blob = tiny.blobs[slot.index]
                    seen[iteration, slot.index] = (blob.version, blob.data.copy())

        drive(tiny, cluster.attach(tiny.model()), rank, iterations, before_layer=look)
        for iteration in range(1, iterations):
            for slot in tiny.slots:
                before, now = (seen[i, slot.index] for i in (iteration - 1, iteration))
                assert not np.array_equal(before[1], now[1])
                assert before[0] < now[0], (name, slot.name)
        return versions

    together(size, SETTINGS[name], work, delay_s=(0, 5e-4))


@pytest.mark.parametrize("svb", ["off", "on"])
def test_what_is_waited_for_is_named(svb):
    """Rank 1 comes late: rank 0's wait names the slot, its row and the owner."""
    let_go = threading.Event()

    def work(rank, cluster):
        tiny = Tiny(widths=(5, 4))
        attached = cluster.attach(tiny.model())
        seen = []

        def look():
            while not seen:
                waiting = cluster.courier.waiting
                if waiting is not None and waiting.label.startswith(("val", "fac")):
                    seen.append(waiting)
                time.sleep(1e-3)
            let_go.set()

        def hold(iteration, layer):
            if iteration == 1:
                return
            if rank:
                let_go.wait(10)
            else:
                threading.Thread(target=look, daemon=True).start()

        drive(tiny, attached, rank, 2, before_layer=hold)
        owners = [row.owner for row in attached.plan.rows]
        return seen, owners

    found, owners = together(2, ClusterSettings(svb=svb), work)[0]
    (waiting,) = found
    if svb == "on":
        assert (waiting.label, waiting.peer) == ("factors of ip0/0", None)
    else:
        assert waiting.label == "values of ip0/0, row 0"
        assert waiting.peer == owners[0]


def test_a_slot_of_no_row_is_open():
    """Frozen slots neither move nor hold anybody up."""

    def work(rank, cluster):
        tiny = Tiny()
        model = tiny.model(frozen=frozenset({0, 1}))
        attached = cluster.attach(model)
        gate = attached.sync._gate
        assert gate.rows_of(0) == []
        assert gate.is_open(0, 99)
        assert not gate.is_open(2, 99)
        before = tiny.blobs[0].data.copy()
        drive(tiny, attached, rank, 2)
        np.testing.assert_array_equal(tiny.blobs[0].data, before)
        assert rank not in {row.owner for row in attached.plan.rows} or (
            not {0, 1} & {slot for _, slot in tiny.updater.applied}
        )

    together(2, SETTINGS["rows"], work)
