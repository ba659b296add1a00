"""The loop: order of events, display, stops, callbacks, weights."""

from __future__ import annotations

import re

import numpy as np
import pytest

from poseidon_caffe.errors import PoseidonError, SolverError, WeightsError
from poseidon_caffe.solver.events import (
    FinalLoss,
    IterationDisplayed,
    IterationFinished,
    LearningRateDisplayed,
    SolverStarted,
    StepReached,
    StoppedEarly,
    TestStarted,
    WeightsLoaded,
)
from tests.solver.support import (
    GOLDEN,
    INPUT_NET,
    Recorder,
    digest,
    feed,
    make_solver,
    weights,
)

QUIET = {"IterationFinished", "NetBuilt", "NetCreating", "Noted"}


def run(text, prefix, *, net=INPUT_NET):
    recorder = Recorder()
    solver = make_solver(
        f'snapshot_prefix: "{prefix}/p" {text}', net, events=[recorder]
    )
    feed(solver)
    return solver, recorder


def spoken(recorder):
    return [name for name in recorder.names() if name not in QUIET]


def test_order_of_a_whole_run_is_that_of_caffes_log(tmp_path):
    """The reference log, with 500 iterations seen as 4 and so on."""
    text = "max_iter: 4 display: 2 test_iter: 1 test_interval: 2 snapshot: 4"
    solver, recorder = run(text, tmp_path)
    solver.solve()
    test, shown = ["TestStarted", "TestOutputs"], [
        "IterationDisplayed", "LearningRateDisplayed",
    ]  # fmt: skip
    assert spoken(recorder) == [
        "SolverInitializing", "ScaffoldingDone", "SolverStarted",
        *test, *shown, *test, *shown,
        "SnapshotWritten", "FinalLoss", *test, "Finished",
    ]  # fmt: skip
    log = (GOLDEN / "train" / "lenet_reference.log").read_text()
    tail = log[log.index("Iteration 480, lr") :]
    places = [
        tail.index(said)
        for said in ("Snapshotting to", "Iteration 500, loss", "Testing net", "Done.")
    ]
    assert places == sorted(places)


def test_displayed_values():
    recorder = Recorder()
    solver = make_solver("display: 2 average_loss: 3", events=[recorder])
    feed(solver)
    solver.step(5)
    shown = recorder.of(IterationDisplayed)
    losses = [e.loss for e in recorder.of(IterationFinished)]
    assert [e.iteration for e in shown] == [0, 2, 4]
    assert shown[0].loss == losses[0]
    assert shown[2].loss == pytest.approx(np.mean(losses[2:5]))
    assert [e.display_iters for e in shown] == [2, 2, 2]
    assert shown[0].iters_per_s == 0
    assert shown[1].iters_per_s == pytest.approx(2 / shown[1].elapsed_s)
    assert shown[2].outputs[0].value == pytest.approx(losses[4])
    assert recorder.of(LearningRateDisplayed)[1] == LearningRateDisplayed(
        2, pytest.approx(0.1)
    )


def test_iter_size_is_one_larger_batch():
    """Two passes over 8 records take the step of one pass over those 16."""
    once = make_solver("momentum: 0.9", INPUT_NET.replace("dim: 8", "dim: 16"))
    twice = make_solver("momentum: 0.9 iter_size: 2")
    random = np.random.default_rng(4)
    data = random.standard_normal((16, 6)).astype(np.float32)
    label = random.integers(0, 4, 16)
    once.net.blobs["data"].data[...] = data
    once.net.blobs["label"].data[...] = label
    passes = []

    def put_half(layer):
        if layer == 0:
            half = slice(8) if len(passes) % 2 == 0 else slice(8, 16)
            twice.net.blobs["data"].data[...] = data[half]
            twice.net.blobs["label"].data[...] = label[half]
            passes.append(layer)

    twice.net.before_forward_hooks.append(put_half)
    once.step(3)
    twice.step(3)
    assert len(passes) == 6
    for a, b in zip(weights(once), weights(twice), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_only_the_last_pass_is_observed():
    class Observer:
        def __init__(self):
            self.seen = []

        def before_forward(self, layer):
            self.seen.append(("forward", layer))

        def grad_ready(self, slot, event):
            self.seen.append(("ready", slot.index))

        def factors_ready(self, slot):
            self.seen.append(("factors", slot.index))

        def backward_done(self):
            self.seen.append(("done", 0))

    solver = make_solver("iter_size: 3")
    feed(solver)
    solver.net.observer = observer = Observer()
    solver.step(1)
    assert observer.seen.count(("done", 0)) == 1
    assert sorted(i for kind, i in observer.seen if kind == "ready") == [0, 1, 2, 3]
    # Of the others, inner products' weights tell of their factors.
    factors = [i for kind, i in observer.seen if kind == "factors"]
    assert factors == 2 * [s.index for s in solver.net.slots[::-1] if s.source]


def test_test_initialization_off(tmp_path):
    text = "max_iter: 2 test_iter: 1 test_interval: 1 test_initialization: false"
    solver, recorder = run(text, tmp_path)
    solver.solve()
    assert [e.iteration for e in recorder.of(TestStarted)] == [1, 2]


def test_no_snapshot_after_train(tmp_path):
    run("max_iter: 1 snapshot_after_train: false", tmp_path)[0].solve()
    assert not list(tmp_path.iterdir())


def test_multistep_is_told():
    recorder = Recorder()
    text = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 1 stepvalue: 3'
    solver = make_solver(text, events=[recorder])
    feed(solver)
    solver.step(5)
    assert recorder.of(StepReached) == [StepReached(1, 1), StepReached(3, 2)]
    assert solver.learning_rate == pytest.approx(0.001)


def test_stop_snapshots_and_says_so(tmp_path):
    solver, recorder = run("max_iter: 100 display: 1 snapshot: 50", tmp_path)
    solver.callbacks.on_start.append(
        lambda: solver.iteration == 6 and solver.request_stop()
    )
    solver.solve()
    assert solver.iteration == 7
    assert spoken(recorder)[-2:] == ["SnapshotWritten", "StoppedEarly"]
    assert (tmp_path / "p_iter_7.solverstate").exists()
    assert recorder.of(StoppedEarly) == [StoppedEarly(7)]
    # And it can go on.
    solver.callbacks.on_start.clear()
    solver.solve(str(tmp_path / "p_iter_7.solverstate"))
    assert solver.iteration == 100


def test_stop_during_a_test(tmp_path):
    solver, recorder = run("max_iter: 9 test_iter: 5 test_interval: 3", tmp_path)
    solver.test_nets[0].before_forward_hooks.append(
        lambda _: solver.iteration == 3 and solver.request_stop()
    )
    solver.solve()
    assert solver.iteration == 3
    assert spoken(recorder)[-3:] == [
        "TestInterrupted", "SnapshotWritten", "StoppedEarly",
    ]  # fmt: skip


def test_stop_before_the_first_iteration(tmp_path):
    solver, recorder = run("max_iter: 9 snapshot_after_train: false", tmp_path)
    solver.request_stop()
    solver.solve()
    assert solver.iteration <= 1
    assert recorder.of(StoppedEarly)


def test_requested_snapshot(tmp_path):
    solver, _ = run("max_iter: 5 snapshot_after_train: false", tmp_path)
    solver.callbacks.on_start.append(
        lambda: solver.iteration == 2 and solver.request_snapshot()
    )
    solver.solve()
    assert [p.name for p in tmp_path.glob("*.solverstate")] == ["p_iter_3.solverstate"]


def test_callbacks_stand_around_the_gradients():
    solver = make_solver()
    feed(solver)
    seen = []

    def ready():
        seen.append(("ready", np.abs(solver.net.learnable[0].diff).max() > 0))
        solver.net.learnable[0].diff[...] = 0

    solver.callbacks.on_start.append(lambda: seen.append("start"))
    solver.callbacks.on_gradients_ready.append(ready)
    before = weights(solver)
    solver.step(2)
    assert seen == ["start", ("ready", True)] * 2
    after = weights(solver)
    assert after[0].tobytes() == before[0].tobytes()
    assert after[2].tobytes() != before[2].tobytes()


def test_same_seed_same_run():
    runs = []
    for _ in range(2):
        solver = make_solver('type: "Adam" random_seed: 5')
        feed(solver)
        solver.step(4)
        runs.append(digest(solver))
    assert runs[0] == runs[1]


def test_seeds():
    def first(text, **options):
        return weights(make_solver(text, **options))[0].tobytes()

    assert first("random_seed: 1") != first("random_seed: 2")
    assert first("random_seed: -1") != first("random_seed: -1")
    assert first("random_seed: -1", seed=4) == first("random_seed: -1", seed=4)
    assert first("random_seed: 1", seed=4) == first("random_seed: 1", seed=5)


def test_weights_of_the_prototxt(tmp_path):
    source = make_solver("random_seed: 77")
    path = str(tmp_path / "w.caffemodel")
    source.net.save(path)
    recorder = Recorder()
    solver = make_solver(
        f'weights: "{path},{path}" weights: "{path}"', events=[recorder]
    )
    assert recorder.of(WeightsLoaded) == [WeightsLoaded(path)] * 3
    assert digest(solver) == digest(source)


def test_weights_of_the_wrong_shape(tmp_path):
    path = str(tmp_path / "w.caffemodel")
    make_solver("", INPUT_NET.replace("num_output: 10", "num_output: 9")).net.save(path)
    with pytest.raises(WeightsError, match=r"ip1.*\(10, 6\).*\(9, 6\)"):
        make_solver(f'weights: "{path}"')


def test_resume_starts_solving_there(tmp_path):
    solver, _ = run("max_iter: 4", tmp_path)
    solver.solve()
    again, recorder = run("max_iter: 6", tmp_path)
    again.solve(str(tmp_path / "p_iter_4.solverstate"))
    assert recorder.of(SolverStarted) == [SolverStarted("tiny", "SGD", "fixed", 4, 6)]
    assert again.iteration == 6


def test_a_finished_run_resumed_does_nothing_but_end(tmp_path):
    run("max_iter: 4", tmp_path)[0].solve()
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again, recorder = run("max_iter: 4 display: 1", tmp_path)
    again.solve(str(tmp_path / "p_iter_4.solverstate"))
    assert not recorder.of(IterationFinished)
    assert len(recorder.of(FinalLoss)) == 1
    kept = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert kept.keys() == files.keys()
    assert kept["p_iter_4.caffemodel"] == files["p_iter_4.caffemodel"]


def test_param_is_a_copy_and_upgraded():
    solver = make_solver("momentum: 0.5 solver_type: NESTEROV")
    assert solver.type == "Nesterov"
    assert not solver.param.HasField("solver_type")


def test_max_iter_is_needed_to_solve():
    solver = make_solver()
    solver.param.ClearField("max_iter")
    with pytest.raises(SolverError, match="max_iter is missing"):
        solver.solve()


def test_first_error_is_a_clear_one():
    with pytest.raises(PoseidonError, match=re.escape('"SGDD" is no solver type')):
        make_solver('type: "SGDD"')


def test_fast_and_reference_kernels_agree():
    runs = []
    for backend in ("reference", "cpu"):
        solver = make_solver('type: "Adam" base_lr: 0.01', backend=backend)
        feed(solver)
        solver.step(5)
        runs.append(weights(solver))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
