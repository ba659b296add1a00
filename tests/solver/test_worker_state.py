"""What is each worker's own, and what all share."""

from __future__ import annotations

import pytest

from poseidon_caffe.solver.sidecar import plain_json
from poseidon_caffe.solver.worker_state import (
    WorkerState,
    apply_shared,
    apply_worker,
    capture,
    mean_losses,
)

TESTED = "test_iter: 2 test_interval: 1 average_loss: 3 "


def moved(solver, steps):
    solver.step(steps)
    return WorkerState(**plain_json(capture(solver).to_json()))


def test_all_of_it_or_what_is_shared(lmdb_solver):
    state = moved(lmdb_solver(TESTED), 4)
    exact, shared = lmdb_solver(TESTED), lmdb_solver(TESTED)
    fresh = shared.net.state()["drop"]
    apply_worker(exact, state)
    assert plain_json(capture(exact).to_json()) == state.to_json()
    assert apply_shared(shared, state, [1.5]) == ["drop"]
    assert shared.net.state() == {"data": state.train["data"], "drop": fresh}
    assert shared.test_nets[0].state()["test"] == state.tests[0]["test"]
    assert shared.window.values() == [1.5]
    assert set(state.train) == {"data", "drop"}
    assert len(state.losses) == 3


def test_state_of_another_net(lmdb_solver):
    state = moved(lmdb_solver(), 1)
    state.train["data"]["next_record"] = "seven"
    with pytest.raises(RuntimeError, match="position of a data feed"):
        apply_worker(lmdb_solver(), state)


def test_windows_together():
    workers = [WorkerState(losses=[1.0, 2.0]), WorkerState(losses=[3.0, 6.0])]
    assert mean_losses(workers) == [2.0, 4.0]
    assert mean_losses([WorkerState()]) == []
