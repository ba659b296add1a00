"""N workers take the steps of one worker with N times the batch (issue 3, 2.1)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.tags import factors_tag
from tests.comm import support
from tests.comm.launch import RANKS, mpirun
from tests.comm.trials import (
    SOLVERS,
    Trial,
    alone,
    load_result,
    make_records,
    named,
    save_trials,
    unequal,
)

#: How far parameters may be apart, in parts of the largest; the rest ten times that.
LIMITS = {"reference": 1e-9, "cpu": 2e-4, "gpu": 2e-4}
BACKENDS = ("reference", "cpu")
MODES = ("off", "on", "auto")

WAYS = {
    "plain": {},
    "clip": {"more": "clip_gradients: 0.9"},
    "passes": {"more": "iter_size: 2"},
    "shared": {"net": "shared"},
    "pooled": {"net": "batch_norm", "pooled": True},
    "fused": {"net": "fused", "pooled": True},
    "server": {"servers": 1},
    "waiting": {"settings": {"overlap": False}},
    "ssp": {"settings": {"force_ssp": True}},
    "merged": {"merge_bytes": 1 << 16, "settings": {"row_bytes": 1 << 18}},
    "all": {
        "net": "batch_norm",
        "pooled": True,
        "servers": 1,
        "more": 'clip_gradients: 0.9 iter_size: 2 regularization_type: "L1"',
        "settings": {"row_bytes": 300, "check_replicas_iters": 7},
    },
    "forced": {"net": "forced", "more": "clip_gradients: 0.5"},
}


#: Without servers: the GPUs' own means.
REDUCED = {
    "reduced": {"nccl": True},
    "reduced-all": {
        "net": "batch_norm",
        "nccl": True,
        "pooled": True,
        "more": 'clip_gradients: 0.9 iter_size: 2 regularization_type: "L1"',
    },
    "reduced-shared": {"net": "shared", "nccl": True, "more": "clip_gradients: 0.9"},
}
AWARE = {
    "aware": {"device_factors": True},
    "aware-all": {
        "device_factors": True,
        "more": "clip_gradients: 0.5 iter_size: 2",
        "settings": {"overlap": False},
    },
}


def trial(workers, backend, solver, mode, way):
    kind = {**WAYS, **REDUCED, **AWARE}[way]
    settings = {"svb": mode, **kind.get("settings", {})}
    name = f"{backend}-{workers}-{solver}-{mode}-{way}"
    kind = {**kind, "settings": settings}
    return Trial(name, workers, backend=backend, solver=solver, **kind)


def quick_trials():
    """Every value of every kind, not all of their combinations."""
    solvers = list(SOLVERS)
    for i, (solver, backend) in enumerate(product(solvers, BACKENDS)):
        yield trial(2 + i % 3, backend, solver, MODES[(i + i // 3) % 3], "plain")
    for i, (way, mode) in enumerate(product(list(WAYS)[1:], ("off", "auto"))):
        backend, solver = BACKENDS[(i + i // 2) % 2], solvers[(i + i // 6) % 6]
        servers = WAYS[way].get("servers", 0)
        yield trial(2 + i % (3 - servers), backend, solver, mode, way)


QUICK = named(list(quick_trials()))
#: On emulated GPUs whose streams run apart: every rule, and every way that differs.
GPU = named(
    [
        trial(workers, "gpu", solver, mode, way)
        for workers, solver, mode, way in (
            (2, "SGD", "on", "plain"),
            (3, "Nesterov", "off", "clip"),
            (2, "AdaGrad", "auto", "passes"),
            (3, "RMSProp", "auto", "all"),
            (2, "AdaDelta", "off", "merged"),
            (3, "Adam", "auto", "shared"),
            (2, "SGD", "on", "pooled"),
            (2, "SGD", "off", "fused"),
            (3, "SGD", "off", "ssp"),
            (2, "Adam", "auto", "waiting"),
            (3, "SGD", "auto", "reduced"),
            (2, "Adam", "auto", "reduced-all"),
            (2, "AdaDelta", "auto", "reduced-shared"),
            (3, "SGD", "on", "aware"),
            (2, "Adam", "on", "aware-all"),
        )
    ]
)
#: Each of these runs once more.
TWICE = [
    trial(3, "cpu", "SGD", "auto", "plain"),
    trial(4, "cpu", "Adam", "off", "plain"),
    trial(3, "cpu", "RMSProp", "auto", "all"),
    trial(4, "cpu", "Nesterov", "off", "ssp"),
]


def forced(bsp):
    settings = {**bsp.settings, "force_ssp": True}
    return replace(bsp, name=f"{bsp.name}-forced", settings=settings)


#: BSP, and the same by the path of bounded staleness.
FORCED = [
    (bsp, forced(bsp))
    for workers, backend, solver, way in (
        (3, "cpu", "RMSProp", "passes"),
        (2, "reference", "SGD", "server"),
        (4, "cpu", "Nesterov", "shared"),
    )
    for bsp in [trial(workers, backend, solver, "off", way)]
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


def run(folder, records, trials, *, timeout_s):
    """Run trials in one job."""
    save_trials(folder, trials)
    ranks = max(each.ranks for each in trials)
    program = RANKS / "training.py"
    done = mpirun(ranks, program, str(folder), str(records), timeout_s=timeout_s)
    assert done.rc == 0, done.said


def check(each, result, records):
    limit = LIMITS[each.backend]
    expected = alone(each, records)
    off = unequal(result, expected, 10 * limit)
    off += [text for text in unequal(result, expected, limit) if "value" in text]
    assert not off
    assert len(result.digests) == each.workers
    assert len(set(result.digests)) == 1, "workers differ"
    assert len(expected.arrays["losses"]) == 6


@pytest.fixture(scope="module")
def quick(tmp_path_factory, records):
    """Results of all quick trials and of the pairs."""
    folder = tmp_path_factory.mktemp("trials")
    pairs = [
        replace(each, name=f"{each.name}-{time}")
        for each in TWICE
        for time in ("first", "second")
    ]
    pairs += [each for pair in FORCED for each in pair if each.name not in QUICK]
    trials = named([*QUICK.values(), *pairs])
    run(folder, records, list(trials.values()), timeout_s=250)
    return {name: load_result(folder, each) for name, each in trials.items()}


@pytest.mark.mpi
@pytest.mark.parametrize("name", QUICK)
def test_workers_together_are_one(quick, records, name):
    check(QUICK[name], quick[name], records)


@pytest.fixture(scope="module")
def on_gpus(tmp_path_factory, records):
    """Results of the trials on GPUs."""
    folder = tmp_path_factory.mktemp("gpus")
    run(folder, records, list(GPU.values()), timeout_s=250)
    return {name: load_result(folder, each) for name, each in GPU.items()}


@pytest.mark.mpi
@pytest.mark.parametrize("name", GPU)
def test_gpus_together_are_one_cpu(on_gpus, records, name):
    check(GPU[name], on_gpus[name], records)
    # Steps are replayed in sections, between which gradients leave and values arrive.
    runs = on_gpus[name].plan["replays"]
    assert len(runs) > 2
    assert sum(runs) > 2 * len(runs)


@pytest.mark.mpi
def test_what_the_quick_trials_cover(quick):
    factors = {name: set(quick[name].plan["factors"]) for name in QUICK}
    mixed = [name for name, found in factors.items() if found == {"ip1/0"}]
    assert sum("-auto-" in name for name in mixed) > 5
    assert any(found == {"ip1/0", "ip2/0"} for found in factors.values())
    assert not any(factors[name] for name in QUICK if "-off-" in name)
    # Shared weights go by rows, whatever is asked for.
    assert not any(factors[name] for name in QUICK if name.endswith("shared"))
    plans = [quick[name].plan for name in QUICK]
    assert max(plan["rows"] for plan in plans) > 10
    assert max(plan["pieces"] for plan in plans) > 3
    assert {plan["owners"] for plan in plans} == {1, 2, 3, 4}
    for name in QUICK:
        if name.endswith(("clip", "all")):
            assert quick[name].arrays["clips"].size, name


@pytest.mark.mpi
@pytest.mark.parametrize("name", [each.name for each in TWICE])
def test_two_runs_are_one_bit_for_bit(quick, name):
    assert_same_bits(quick[f"{name}-first"], quick[f"{name}-second"])


def assert_same_bits(first, second):
    assert first.digests == second.digests
    for key, array in first.arrays.items():
        assert array.tobytes() == second.arrays[key].tobytes(), key


@pytest.mark.mpi
@pytest.mark.parametrize("name", [bsp.name for bsp, _ in FORCED])
def test_forced_ssp_is_bsp_bit_for_bit(quick, name):
    assert_same_bits(quick[name], quick[f"{name}-forced"])


def test_a_norm_that_comes_before_some_of_the_factors():
    """Worker 0 knows what all are clipped by while worker 1 still misses factors."""

    late = {factors_tag(slot, part) for slot in (2, 4) for part in (0, 1)}

    def delay_s(source, peer, tag, size_bytes):
        return 0.02 * (tag in late and (source, peer) == (0, 1))

    def work(rank, cluster):
        tiny = support.Tiny()
        attached = cluster.attach(tiny.model(clip_gradients=1.0))
        assert [pair.weights.index for pair in attached.plan.pairs] == [0, 2, 4]
        support.drive(tiny, attached, rank, 5)
        return tiny.state()

    found = support.together(2, ClusterSettings(svb="on"), work, delay_s=delay_s)
    expected = support.alone(support.Tiny(), 2, 5, clip=1.0)
    for state in found:
        np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_every_combination(tmp_path, records, workers, backend):
    trials = named(
        [
            trial(workers, backend, solver, mode, way)
            for solver, mode, way in product(SOLVERS, MODES, WAYS)
            if not (mode == "on" and way == "ssp")
        ]
    )
    run(tmp_path, records, list(trials.values()), timeout_s=1000)
    wrong = {}
    for name, each in trials.items():
        try:
            check(each, load_result(tmp_path, each), records)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong
