"""The bound of stale reads, and nobody waiting longer than it asks (issue 3, 2.2)."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from poseidon_caffe.comm.settings import SORT_POLICIES, ClusterSettings
from tests.comm.counting import Log, counting, watch
from tests.comm.launch import RANKS, mpirun
from tests.comm.support import Tiny, alone, drive, together

DELAY_S = (0.0, 0.02)
PATIENCE_S = 30.0


def settings_of(staleness=0, servers=0, **more):
    return ClusterSettings(
        **{
            "staleness": staleness,
            "servers": servers,
            "svb": "off",
            "row_bytes": 2048,
            "force_ssp": not staleness,
            **more,
        }
    )


def stalls(kind, seed, worker, workers, staleness):
    """A pause for `watch`: sleeps now and then, for up to a few iterations' length."""
    draw = random.Random(f"{kind}/{seed}/{worker}")

    def slow_one(iteration, layer, moment):
        if worker == seed % workers and moment == "backward":
            time.sleep(0.006)

    def moving(iteration, layer, moment):
        if layer == 0 and moment == "forward" and iteration % workers == worker:
            time.sleep(0.01 * (staleness + 1))

    def anywhere(iteration, layer, moment):
        if draw.random() < 0.1:
            time.sleep(draw.uniform(0, 0.02))

    return {"slow": slow_one, "moving": moving, "anywhere": anywhere}[kind]


def train(staleness, workers, servers, seed, kind, iterations=8, **more):
    """What everybody saw."""
    log = Log(workers)

    def work(rank, cluster):
        tiny = counting()
        attached = cluster.attach(tiny.model())
        if rank >= workers:
            cluster.serve()
            return
        pause = stalls(kind, seed, rank, workers, staleness)
        watch(tiny, attached, rank, iterations, log, pause)

    settings = settings_of(staleness, servers, **more)
    together(workers + servers, settings, work, delay_s=DELAY_S, seed=seed)
    assert len(log.seen) == workers * iterations * 3
    return log


@pytest.mark.parametrize("staleness", range(5))
@pytest.mark.parametrize(
    ("workers", "servers"), [(2, 0), (3, 0), (4, 0), (2, 1), (3, 2)]
)
def test_no_layer_reads_values_older_than_the_bound(staleness, workers, servers):
    seed = 10 * staleness + workers + servers
    kind = ("slow", "moving", "anywhere")[seed % 3]
    train(staleness, workers, servers, seed, kind).check(staleness)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["slow", "moving", "anywhere"])
@pytest.mark.parametrize("staleness", range(5))
def test_the_bound_with_many_seeds(staleness, kind):
    for seed in range(20):
        workers, servers = 2 + seed % 3, (0, 0, 1, 2)[seed % 4]
        policy = SORT_POLICIES[seed % 4]
        overlap = seed % 5 > 0
        log = train(
            staleness, workers, servers, seed, kind, 15,
            update_sort_policy=policy, overlap=overlap,
        )  # fmt: skip
        log.check(staleness)


@pytest.mark.parametrize("policy", SORT_POLICIES)
def test_the_bound_with_every_order_and_a_capped_link(policy):
    log = train(
        2, 3, 0, 5, "anywhere", 6, update_sort_policy=policy, bandwidth_mbps=20.0
    )
    log.check(2)


@pytest.mark.parametrize("staleness", [1, 3])
def test_without_overlap_too(staleness):
    """Values put in place for the next iteration are not enough for a snapshot."""
    log = train(staleness, 3, 0, staleness, "moving", overlap=False)
    log.check(staleness)


def test_bsp_reads_the_present_version_only():
    log = train(0, 3, 1, 4, "anywhere", force_ssp=False)
    log.check(0)


@pytest.mark.parametrize("staleness", range(4))
@pytest.mark.parametrize("servers", [0, 1])
def test_others_run_ahead_of_a_paused_worker_by_the_bound_exactly(staleness, servers):
    workers, paused_at = 3, 2
    log, may_go_on = Log(workers), threading.Event()

    def pause(iteration, layer, moment):
        if (iteration, layer, moment) == (paused_at, 0, "entered"):
            assert may_go_on.wait(PATIENCE_S)

    def work(rank, cluster):
        tiny = counting()
        attached = cluster.attach(tiny.model())
        if rank >= workers:
            cluster.serve()
        elif rank == 1:
            watch(tiny, attached, rank, 8, log, pause)
        else:
            watch(tiny, attached, rank, 8, log)

    def judge():
        try:
            ahead = paused_at + staleness
            got_there = log.wait_until(
                lambda: min(log.begun[0], log.begun[2]) >= ahead, PATIENCE_S
            )
            # Nobody of them may begin one more.
            went_on = log.wait_until(lambda: max(log.begun) > ahead, 0.15)
            verdict.extend((got_there, went_on))
        finally:
            may_go_on.set()

    verdict = []
    judging = threading.Thread(target=judge)
    judging.start()
    settings = settings_of(staleness, servers)
    together(workers + servers, settings, work, delay_s=(0, 0.002))
    judging.join()
    assert verdict == [True, False]
    log.check(staleness)


def test_a_layer_waits_for_its_own_rows_only():
    """The last layer's values are late: the layers before it go on meanwhile."""
    reached, may_arrive = threading.Event(), threading.Event()
    found = []

    def work(rank, cluster):
        tiny = counting()
        cluster.sizes = replace(cluster.sizes, merge_bytes=0)  # no row of two layers
        attached = cluster.attach(tiny.model())
        last = {s.index for s in tiny.slots if s.owner == tiny.layers - 1}
        late = [r.index for r in attached.plan.rows if r.pieces[0].slot in last]
        assert late
        held = attached._server._delivery
        deliver = held.deliver

        def slow(row, version):
            if row.index not in late or version != 1:
                deliver(row, version)
            else:
                cluster.courier.call(lambda: again(row, version))

        def again(row, version):
            if may_arrive.is_set():
                deliver(row, version)
            else:
                time.sleep(0.001)
                cluster.courier.call(lambda: again(row, version))

        held.deliver = slow

        def pause(iteration, layer, moment):
            if (iteration, layer, moment) == (1, tiny.layers - 1, "forward"):
                client = attached._client
                found.append([client.is_ready(row, 1) for row in late])
                reached.set()
                may_arrive.set()

        watch(tiny, attached, rank, 3, Log(2), pause)

    together(2, ClusterSettings(svb="off", row_bytes=2048), work)
    assert reached.is_set()
    # The one that came first cannot have had them.
    assert not any(found[0])


def test_values_that_are_there_make_nobody_wait():
    """With every version in, `before_forward` returns without the courier."""

    def work(rank, cluster):
        tiny = counting()
        attached = cluster.attach(tiny.model())
        waited = []

        def pause(iteration, layer, moment):
            if moment != "forward" or not iteration:
                return
            slots = [s.index for s in tiny.slots if layer in s.users]
            gate = attached.observer._gate
            end = time.monotonic() + PATIENCE_S
            while not all(gate.is_open(slot, iteration - 1) for slot in slots):
                assert time.monotonic() < end
                time.sleep(0.001)
            wait_for = cluster.courier.wait_for
            cluster.courier.wait_for = lambda *args: waited.append(args)
            try:
                attached.observer.before_forward(layer)
            finally:
                cluster.courier.wait_for = wait_for

        watch(tiny, attached, rank, 6, Log(3), pause)
        return waited

    found = together(3, settings_of(1), work, delay_s=(0, 0.005))
    assert found == [[], [], []]


def states(size, settings, delay_s, seed, *, iterations=5, statistics=False):
    workers = size - settings.servers

    def work(rank, cluster):
        tiny = Tiny(statistics=statistics)
        attached = cluster.attach(tiny.model())
        if rank >= workers:
            cluster.serve()
            return None
        drive(tiny, attached, rank, iterations)
        return tiny.state()

    return together(size, settings, work, delay_s=delay_s, seed=seed)[:workers]


@pytest.mark.parametrize("seed", range(12))
def test_ssp_forced_to_0_is_bsp_bit_for_bit(seed):
    servers = seed % 3 == 2
    size = 2 + seed % 3 + servers
    statistics = seed % 2 == 1
    found = [
        states(
            size,
            settings_of(0, int(servers), force_ssp=forced),
            DELAY_S,
            seed + 100 * forced,
            statistics=statistics,
        )
        for forced in (False, True)
    ]
    expected = alone(Tiny(statistics=statistics), size - servers, 5)
    np.testing.assert_allclose(found[0][0], expected, rtol=1e-9, atol=1e-12)
    for state in (*found[0], *found[1]):
        assert state.tobytes() == found[0][0].tobytes()


@pytest.mark.parametrize("staleness", [1, 3])
def test_after_the_end_all_workers_have_the_same_values(staleness):
    """And no update is lost: `sync.wait` waits for all of them."""
    found = states(3, settings_of(staleness), DELAY_S, 7, iterations=9)
    for state in found:
        assert np.isfinite(state).all()
        assert state.tobytes() == found[0].tobytes()


# -- the same on real MPI ----------------------------------------------------------


@pytest.mark.mpi
@pytest.mark.parametrize(("ranks", "servers"), [(3, 0), (4, 1)])
def test_the_bound_on_mpi(ranks, servers):
    done = mpirun(ranks, RANKS / "stale.py", "bound", str(servers), timeout_s=120)
    assert done.rc == 0, done.said
    assert done.stdout.count("bound holds") == (ranks - servers) * 4, done.said


@pytest.mark.mpi
def test_stalls_that_move_cost_less_with_staleness():
    done = mpirun(4, RANKS / "stale.py", "speed", timeout_s=120)
    assert done.rc == 0, done.said
    lines = [line.split() for line in done.stdout.splitlines()]
    best = {
        staleness: max(float(rate) for each, rate in lines if each == staleness)
        for staleness in ("0", "3")
    }
    assert best["3"] > 1.3 * best["0"], done.said
