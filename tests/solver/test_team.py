"""Several workers against one process: training, tests, log values, requests."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from poseidon_caffe.errors import NumericsError
from poseidon_caffe.solver.events import (
    DataRestarted,
    GradientsClipped,
    IterationDisplayed,
    IterationFinished,
    LearningRateDisplayed,
    SnapshotWritten,
    StepReached,
    StoppedEarly,
    TestInterrupted,
    TestOutputs,
    TestStarted,
)
from poseidon_caffe.solver.solver import Solver
from tests.solver.support import LMDB_NET, Recorder, make_solver, weights, write_lmdb
from tests.solver.team import run_team

DROPOUT = 'layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv" }}\n'
RULES = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "weight_decay: 0.01",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9",
}
MULTISTEP = 'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 '
#: 5 batches of 4, which no number of workers here divides.
TESTED = "test_iter: 5 test_interval: 2 test_compute_loss: true "


@pytest.fixture
def net(in_folder):
    """`LMDB_NET` without dropout, batch 6; ``net(2)`` has half of it."""
    write_lmdb(in_folder)

    def make(share=1, *, dropout=False):
        text = LMDB_NET if dropout else LMDB_NET.replace(DROPOUT, "")
        return text.format(folder=in_folder).replace(
            "batch_size: 7", f"batch_size: {12 // share}"
        )

    return make


def one(text, net, work, **options):
    """(the solver, its recorder) after ``work(solver)`` in one process."""
    recorder = Recorder()
    solver = make_solver(text, net, events=[recorder], **options)
    work(solver)
    solver.close()
    return solver, recorder


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("kind", RULES)
def test_workers_together_are_one_process(net, kind, world):
    text = f'type: "{kind}" base_lr: 0.05 {RULES[kind]} {MULTISTEP} iter_size: 2'
    alone, events = one(text, net(), lambda s: s.step(7), dtype=np.float64)
    team = run_team(
        world, text, net(world), lambda m: m.solver.step(7), dtype=np.float64
    )
    for member in team:
        for a, b in zip(weights(member.solver), weights(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
        assert member.solver.learning_rate == alone.learning_rate
        assert member.recorder.of(StepReached) == events.of(StepReached)
        data = member.solver.net.state()["data"]
        assert data == alone.net.state()["data"]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_tests_print_what_one_process_prints(net, world):
    text = TESTED + "test_iter: 1 test_iter: 2"

    def tests(solver):
        for _ in range(3):
            assert solver.test_all()
        solver.test(0)

    alone, events = one(text, net(dropout=True), tests)
    team = run_team(world, text, net(dropout=True), lambda m: tests(m.solver))
    wanted = events.of(TestOutputs)
    assert len(wanted) == 3 * 3 + 1
    for member in team:
        # All of it to the last bit, the loss too.
        assert member.recorder.of(TestOutputs) == wanted
        assert member.recorder.of(TestStarted) == events.of(TestStarted)
        for mine, its in zip(member.solver.test_nets, alone.test_nets, strict=True):
            assert mine.state()["test"] == its.state()["test"]
        assert member.recorder.of(DataRestarted) == events.of(DataRestarted)
    assert events.of(DataRestarted)


def test_each_worker_runs_its_share_of_the_tests(net):
    counts = [0, 0, 0]

    def work(member):
        def count(layer):
            counts[member.rank] += layer == 0

        member.solver.test_nets[0].before_forward_hooks.append(count)
        for _ in range(6):
            member.solver.test_all()

    run_team(3, TESTED, net(), work)
    assert counts == [10, 10, 10]


def test_sources_of_their_own_are_read_in_sequence(net, in_folder):
    for rank in range(2):
        shutil.copytree(in_folder / "lmdb", in_folder / f"lmdb_{rank}")
    text = net().replace("backend", "shared_file_system: false backend")
    seen = [[], []]

    def work(member):
        test_net = member.solver.test_nets[0]
        test_net.after_forward_hooks.append(
            lambda i: (
                i == 0
                and seen[member.rank].append(test_net.blobs["label"].data.tolist())
            )
        )
        for _ in range(2):
            member.solver.test_all()

    run_team(2, TESTED, text, work)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 5
    assert [int(x) for batch in seen[0] for x in batch] == [i % 3 for i in range(20)]


def test_displayed_values_are_means(net):
    text = "display: 2 average_loss: 3 momentum: 0.9"
    team = run_team(3, text, net(3), lambda m: m.solver.step(5))
    losses = [[e.loss for e in m.recorder.of(IterationFinished)] for m in team]
    shown = team[0].recorder.of(IterationDisplayed)
    assert [e.iteration for e in shown] == [0, 2, 4]
    for event in shown:
        i = event.iteration
        window = np.array(losses)[:, max(0, i - 2) : i + 1]
        assert event.loss == pytest.approx(window.mean(), rel=1e-12)
        mean = np.mean([mine[i] for mine in losses])
        assert event.outputs[0].value == pytest.approx(mean, rel=1e-6)
    _, events = one(text, net(), lambda s: s.step(5), dtype=np.float64)
    for event, want in zip(shown, events.of(IterationDisplayed), strict=True):
        assert event.loss == pytest.approx(want.loss, rel=1e-5)
    assert team[1].recorder.of(IterationDisplayed)[1].loss == pytest.approx(
        np.mean(losses[1][:3])
    )
    assert len(team[0].recorder.of(LearningRateDisplayed)) == 3


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("asker", [0, 2])
def test_all_stop_together(net, lag, asker):
    def work(member):
        solver = member.solver
        if member.rank == asker:
            solver.callbacks.on_start.append(
                lambda: solver.iteration == 4 and solver.request_stop()
            )
        solver.solve()
        return solver.iteration

    text = 'max_iter: 50 snapshot_prefix: "t" ' + TESTED
    team = run_team(3, text, net(), work, lag=lag)
    assert [m.result for m in team] == [5 + lag] * 3
    for member in team:
        assert member.recorder.of(StoppedEarly) == [StoppedEarly(5 + lag)]
        assert not member.recorder.of(TestInterrupted)
    # The files of one, with everyone's state.
    written = [len(m.recorder.of(SnapshotWritten)) for m in team]
    assert written == [1, 0, 0]


def test_a_stop_during_a_test_waits_for_the_others(net):
    def work(member):
        solver = member.solver
        if member.rank == 1:
            solver.test_nets[0].before_forward_hooks.append(
                lambda _: solver.iteration == 2 and solver.request_stop()
            )
        solver.solve()
        return solver.iteration

    team = run_team(2, 'max_iter: 50 snapshot_prefix: "t" ' + TESTED, net(), work)
    assert [m.result for m in team] == [3, 3]
    assert [len(m.recorder.of(TestOutputs)) for m in team] == [2, 2]


@pytest.mark.parametrize("lag", [0, 1])
def test_all_write_a_requested_snapshot_together(net, in_folder, lag):
    def work(member):
        solver = member.solver
        if member.rank == 1:
            solver.callbacks.on_start.append(
                lambda: solver.iteration == 2 and solver.request_snapshot()
            )
        solver.step(6)

    team = run_team(2, 'snapshot_prefix: "t"', net(), work, lag=lag)
    name = f"t_iter_{3 + lag}.solverstate"
    assert [p.name for p in in_folder.glob("*.solverstate")] == [name]
    assert len(team[0].recorder.of(SnapshotWritten)) == 1


def test_what_a_cluster_updates_is_neither_clipped_nor_waited_for(net):
    def work(member):
        solver = member.solver
        waited = []
        solver.sync.wait = waited.append
        solver.apply_update()
        return waited

    team = run_team(2, "clip_gradients: 1e-9", net(), work)
    for member in team:
        assert member.result == []
        assert not member.recorder.of(GradientsClipped)


def test_a_worker_that_fails_fails_as_it_would_alone(net):
    def work(member):
        if member.rank == 1:
            blob = member.solver.net.learnable[0]
            member.solver.callbacks.on_start.append(lambda: blob.data.fill(np.nan))
        member.solver.step(1)

    with pytest.raises(NumericsError, match="parameter 0 of layer conv"):
        run_team(2, "", net(), work)


def test_only_rank_0_reads_weights(net, in_folder):
    first = make_solver("random_seed: 77", net())
    first.net.save("w.caffemodel")
    first.close()
    reads = []

    class Watched(Solver):
        def load_weights(self, path):
            reads.append(self.shard.rank)
            super().load_weights(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.solver.team.Solver", Watched)
        team = run_team(3, 'weights: "w.caffemodel"', net(), lambda m: None)
    assert reads == [0]
    for member in team:
        for a, b in zip(weights(member.solver), weights(first), strict=True):
            assert a.tobytes() == b.tobytes()
