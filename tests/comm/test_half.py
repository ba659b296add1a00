"""Float16 on several GPUs: the steps of one, skipped where one worker's overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.comm.launch import RANKS, mpirun
from tests.comm.trials import (
    Trial,
    alone,
    load_result,
    make_records,
    named,
    save_trials,
    unequal,
)

pytestmark = pytest.mark.mpi

#: As float32's, in parts of the largest; what is rounded to float16 is the same.
LIMIT = 2e-4
#: At float16's first factors its gradient is more than 65504.
FAR = 40

RATE = "base_lr: 0.0005"
TRIALS = named(
    [
        Trial("rows", 2, settings={"svb": "off"}),
        Trial("factors", 2, settings={"svb": "on"}),
        Trial("aware", 2, settings={"svb": "on"}, device_factors=True),
        Trial(
            "clip", 2, more="clip_gradients: 20 iter_size: 2", settings={"svb": "auto"}
        ),
        Trial("server", 2, servers=1, settings={"svb": "off", "row_bytes": 300}),
        Trial("ssp", 3, settings={"svb": "off", "force_ssp": True}),
        Trial("waiting", 2, settings={"svb": "on", "overlap": False}),
        Trial("reduced", 2, nccl=True),
        Trial("stale", 3, settings={"svb": "off", "staleness": 1}),
    ]
)
TRIALS = {
    name: replace(
        each,
        backend="half",
        net="regression",
        iterations=16,
        more=f"{each.more} {RATE}",
    )
    for name, each in TRIALS.items()
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"), far=FAR)


@pytest.fixture(scope="module")
def results(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("half")
    save_trials(folder, TRIALS.values())
    program = RANKS / "training.py"
    done = mpirun(3, program, str(folder), str(records), timeout_s=200)
    assert done.rc == 0, done.said
    return {name: load_result(folder, each) for name, each in TRIALS.items()}


@pytest.mark.parametrize("name", TRIALS)
def test_all_workers_skip_the_same_steps(results, name):
    found = results[name]
    assert len(set(found.digests)) == 1, "workers differ"
    assert all(np.isfinite(array).all() for array in found.arrays.values())
    first, *others = found.scales
    assert all(other == first for other in others)
    assert first["factor"] < 2.0**16
    assert 2 < first["skipped"] < 8
    assert first["good"] > 0


@pytest.mark.parametrize("name", [name for name in TRIALS if name != "stale"])
def test_workers_together_are_one(results, records, name):
    found, each = results[name], TRIALS[name]
    expected = alone(each, records)
    off = unequal(found, expected, 10 * LIMIT)
    off += [text for text in unequal(found, expected, LIMIT) if "value" in text]
    assert not off
    (one,) = expected.scales
    assert found.scales[0] == {**one, "factor": one["factor"] / each.workers}
    ways = found.plan["factors"]
    assert bool(ways) == (name in {"factors", "aware", "clip", "waiting"})
    # Looked at between the sections of a step, which are replayed all the same.
    assert sum(found.plan["replays"]) > 10
