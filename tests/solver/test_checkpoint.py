"""Snapshot and resume: bit for bit as if never stopped."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from poseidon_caffe.errors import SnapshotError, WeightsError
from poseidon_caffe.schema.binary import read_binary
from poseidon_caffe.schema.messages import NetParameter, SolverState
from poseidon_caffe.solver.events import (
    HistoryRestored,
    IterationFinished,
    Resumed,
    SnapshotWritten,
    TestOutputs,
    Warned,
)
from poseidon_caffe.types import Shard
from tests.golden_support import Recording, assert_close
from tests.solver.support import (
    GOLDEN,
    INPUT_NET,
    LMDB_NET,
    Recorder,
    digest,
    feed,
    make_solver,
    weights,
)
from tests.solver.team import run_team

RULES = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9 iter_size: 2",
    "AdaGrad": "average_loss: 3",
    "RMSProp": "rms_decay: 0.9 clip_gradients: 0.5",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9",
}
MULTISTEP = 'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 '
OWN = "shared_file_system: false "
TESTED = "test_iter: 3 test_interval: 2 test_initialization: false "


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("kind", RULES)
def test_resumed_run_is_the_unbroken_run(lmdb_solver, kind, form):
    if form == "HDF5":
        pytest.importorskip("h5py")
    text = (
        f'type: "{kind}" {RULES[kind]} base_lr: 0.02 display: 1 {MULTISTEP} {TESTED}'
        f"snapshot_format: {form} "
    )
    whole, resumed = Recorder(), Recorder()
    unbroken = lmdb_solver(text + "snapshot: 3", events=[whole])
    unbroken.step(9)
    # Another seed, as when random_seed is not set: the snapshot's must win.
    second = lmdb_solver(text + "random_seed: 99", events=[resumed])
    suffix = ".solverstate.h5" if form == "HDF5" else ".solverstate"
    second.restore(f"p_iter_3{suffix}")
    assert second.iteration == 3
    assert resumed.of(Resumed) == [Resumed(f"p_iter_3{suffix}", 3, exact=True)]
    assert not resumed.of(Warned)
    second.step(6)
    assert digest(second) == digest(unbroken)
    for event in (IterationFinished, TestOutputs):
        seen = [e for e in whole.of(event) if e.iteration > 3]
        assert resumed.of(event) == seen
        assert seen
    assert second.net.state() == unbroken.net.state()
    assert second.window.values() == unbroken.window.values()


def test_files_of_a_resumed_run_are_the_same_bytes(lmdb_solver, in_folder):
    text = "momentum: 0.9 snapshot: 2 "
    lmdb_solver(text).step(6)
    names = [
        f"p_iter_6.{end}" for end in ("caffemodel", "solverstate", "poseidonstate")
    ]
    before = [(in_folder / name).read_bytes() for name in names]
    for name in names:
        (in_folder / name).unlink()
    second = lmdb_solver(text)
    second.restore("p_iter_4.solverstate")
    second.step(2)
    assert [(in_folder / name).read_bytes() for name in names] == before


def test_the_shown_loss_goes_on(lmdb_solver):
    text = "average_loss: 5 display: 1 "
    unbroken = lmdb_solver(text + "snapshot: 4")
    unbroken.step(6)
    resumed = lmdb_solver(text)
    resumed.restore("p_iter_4.solverstate")
    resumed.step(2)
    assert resumed.window.mean == unbroken.window.mean


def test_moved_snapshots_are_found_together(lmdb_solver, in_folder):
    paths = lmdb_solver().snapshot()
    (in_folder / "elsewhere").mkdir()
    for path in (paths.model, paths.state, paths.sidecar):
        shutil.move(path, in_folder / "elsewhere" / path)
    second = lmdb_solver()
    second.restore("elsewhere/p_iter_0.solverstate")
    second.restore("elsewhere/p_iter_0.poseidonstate")


def test_what_is_written(in_folder, recorder):
    solver = make_solver('momentum: 0.9 snapshot_prefix: "q"', events=[recorder])
    feed(solver)
    solver.step(5)
    paths = solver.snapshot()
    assert sorted(p.name for p in in_folder.iterdir()) == [
        "q_iter_5.caffemodel",
        "q_iter_5.poseidonstate",
        "q_iter_5.solverstate",
    ]
    assert recorder.of(SnapshotWritten) == [
        SnapshotWritten(5, "q_iter_5.caffemodel", "q_iter_5.solverstate", is_hdf5=False)
    ]
    state = read_binary(paths.state, SolverState)
    assert (state.iter, state.learned_net) == (5, "q_iter_5.caffemodel")
    assert [list(blob.shape.dim) for blob in state.history] == [
        [10, 6], [10], [4, 10], [4],
    ]  # fmt: skip
    net = read_binary(paths.model, NetParameter)
    assert [layer.name for layer in net.layer] == solver.net.layer_names


def test_snapshot_diff(in_folder):
    solver = make_solver('snapshot_diff: true snapshot_prefix: "q"')
    feed(solver)
    solver.step(1)
    net = read_binary(solver.snapshot().model, NetParameter)
    assert [len(b.diff) for layer in net.layer for b in layer.blobs] == [60, 10, 40, 4]


CAFFES = [("resume_sgd", ".solverstate"), ("resume_sgd_h5", ".solverstate.h5")]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("name", "suffix"), CAFFES)
def test_caffes_snapshot_goes_on_as_caffe_did(name, suffix, backend, recorder):
    recording = Recording.load("solvers", name)
    solver = make_solver(
        recording.text("solver").replace('net: "net.prototxt"', ""),
        recording.text("net"),
        events=[recorder],
        backend=backend,
    )
    path = str(GOLDEN / "solvers" / f"{name}{suffix}")
    solver.restore(path)
    # The net has neither data layers nor dropout, so nothing is missing.
    assert recorder.of(Resumed) == [Resumed(path, 6, exact=True)]
    assert recorder.of(HistoryRestored) == [HistoryRestored("SGD")]
    for step in range(6, int(recording.arrays["steps"])):
        for blob, batches in recording.under("batch"):
            solver.net.blobs[blob].data[...] = batches[step]
        solver.step(1)
        for key, values in recording.under(f"after/{step}"):
            layer, index = key.rsplit("/", 1)
            got = solver.net.layers[solver.net.layer_index(layer)].blobs[int(index)]
            assert_close(got.data, values, f"after/{step}/{key}", 2.0)


def test_a_bare_caffe_snapshot_resumes_with_a_warning(lmdb_solver, in_folder):
    lmdb_solver("snapshot: 2").step(2)
    (in_folder / "p_iter_2.poseidonstate").unlink()
    recorder = Recorder()
    second = lmdb_solver(events=[recorder])
    second.restore("p_iter_2.solverstate")
    assert second.iteration == 2
    (warning,) = recorder.of(Warned)
    assert "bare Caffe snapshot" in warning.message
    assert not recorder.of(Resumed)[0].exact


def test_another_number_of_workers_is_told(lmdb_solver):
    first = lmdb_solver()
    first.shard = Shard(0, 4)
    path = first.snapshot().state
    recorder = Recorder()
    lmdb_solver(events=[recorder]).restore(path)
    assert "written by 4 workers, now 1" in recorder.of(Warned)[0].message


@pytest.mark.parametrize("world", [2, 3])
def test_workers_resume_exactly_as_many_as_they_were(lmdb_solver, in_folder, world):
    text = (
        'type: "Adam" momentum: 0.9 display: 1 average_loss: 4 snapshot_prefix: "p" '
        + MULTISTEP
        + TESTED
    )
    net = LMDB_NET.format(folder=lmdb_solver().net and in_folder)
    unbroken = run_team(world, text + "snapshot: 3", net, lambda m: m.solver.step(8))
    resumed = run_team(
        world,
        text + "random_seed: 99",
        net,
        lambda m: m.solver.step(5),
        resume="p_iter_3.solverstate",
    )
    for whole, member in zip(unbroken, resumed, strict=True):
        a, b = member.solver, whole.solver
        assert (a.iteration, a.seed) == (8, b.seed)
        assert [x.tobytes() for x in weights(a)] == [x.tobytes() for x in weights(b)]
        assert a.net.state() == b.net.state()
        assert a.window.values() == b.window.values()
        assert a.tester.dealt == b.tester.dealt
        for event in (IterationFinished, TestOutputs):
            wanted = [e for e in whole.recorder.of(event) if e.iteration > 3]
            assert member.recorder.of(event) == wanted
            assert wanted
        assert not member.recorder.of(Warned)
    # Each has drawn its own numbers.
    assert len({str(m.solver.net.state()["drop"]) for m in resumed}) == world
    (told,) = [e for m in resumed for e in m.recorder.of(Resumed)]
    assert told == Resumed("p_iter_3.solverstate", 3, exact=True)


def test_history_of_all_workers_is_in_the_snapshot(lmdb_solver, in_folder):
    """Each slot's history lives with its owner until it is collected."""
    net = LMDB_NET.format(folder=lmdb_solver().net and in_folder)
    text = 'momentum: 0.9 snapshot_prefix: "p"'
    run_team(2, text, net, lambda m: (m.solver.step(2), m.solver.snapshot()))
    state = read_binary("p_iter_2.solverstate", SolverState)
    assert all(np.abs(list(blob.data)).max() > 0 for blob in state.history)


@pytest.mark.parametrize("worlds", [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_workers_goes_on_with_the_data(
    lmdb_solver, in_folder, worlds
):
    net = LMDB_NET.format(folder=lmdb_solver().net and in_folder)
    text = 'snapshot_prefix: "p" average_loss: 3 ' + TESTED
    before, after = worlds
    first = run_team(before, text + "snapshot: 4", net, lambda m: m.solver.step(4))
    windows = [m.solver.window.values() for m in first]
    second = run_team(
        after,
        text + "random_seed: 7",
        net,
        lambda m: (m.solver.net.state(), m.solver.window.values()),
        resume="p_iter_4.solverstate",
    )
    for member in second:
        state, losses = member.result
        assert state["data"] == first[0].solver.net.state()["data"]
        assert losses == pytest.approx(np.mean(windows, axis=0))
        for mine, its in zip(
            member.solver.test_nets, first[0].solver.test_nets, strict=True
        ):
            assert mine.state()["test"] == its.state()["test"]
    (warning,) = second[0].recorder.of(Warned)
    assert f"written by {before} worker" in warning.message
    assert f", now {after}" in warning.message
    assert "of its own starts anew (layers drop)" in warning.message
    assert not second[0].recorder.of(Resumed)[0].exact


def test_sidecars_of_format_1_go_on_exactly(lmdb_solver, in_folder):
    unbroken = lmdb_solver("average_loss: 3 snapshot: 4 " + TESTED)
    unbroken.step(6)
    path = in_folder / "p_iter_4.poseidonstate"
    found = json.loads(path.read_text())
    del found["dealt"]
    (worker,) = found.pop("workers")
    path.write_text(json.dumps({**found, **worker, "version": 1}))
    recorder = Recorder()
    second = lmdb_solver("average_loss: 3 " + TESTED, events=[recorder])
    second.restore("p_iter_4.solverstate")
    assert recorder.of(Resumed)[0].exact
    second.step(2)
    assert digest(second) == digest(unbroken)
    assert second.window.values() == unbroken.window.values()


def test_an_own_source_starts_anew_with_other_workers(lmdb_solver, in_folder):
    shutil.copytree(lmdb_solver().net and in_folder / "lmdb", in_folder / "lmdb_0")
    own = LMDB_NET.format(folder=in_folder).replace("backend", OWN + "backend")
    first = make_solver('snapshot_prefix: "p"', own)
    first.step(2)
    path = first.snapshot().sidecar
    first.close()
    found = json.loads((in_folder / path).read_text())
    found["workers"] *= 2
    (in_folder / path).write_text(json.dumps({**found, "world": 2}))
    recorder = Recorder()
    second = make_solver("", own, events=[recorder])
    second.restore("p_iter_2.solverstate")
    assert "(layers data, drop)" in recorder.of(Warned)[0].message
    assert second.net.state()["data"]["next_record"] == 0
    second.close()


def test_other_ranks_write_nothing(in_folder):
    solver = make_solver('snapshot_prefix: "q"')
    solver.shard = Shard(1, 2)
    assert solver.snapshot().model == "q_iter_0.caffemodel"
    assert not list(in_folder.iterdir())


def unchanged_after(solver, path, error, said):
    before, at = digest(solver), solver.iteration
    with pytest.raises(error, match=said):
        solver.restore(path)
    assert (digest(solver), solver.iteration) == (before, at)


def test_another_solver_type_is_refused(in_folder):
    path = make_solver('snapshot_prefix: "q"').snapshot().state
    adam = make_solver('type: "Adam"')
    unchanged_after(adam, path, SnapshotError, r"holds 4 history blobs.*needs 8")


def test_another_net_is_refused_with_every_misfit(in_folder):
    path = make_solver('snapshot_prefix: "q"').snapshot().state
    other = make_solver("", INPUT_NET.replace("num_output: 10", "num_output: 9"))
    unchanged_after(other, path, SnapshotError, r"3 history blob\(s\).*\(9, 6\)")


def test_weights_that_do_not_fit_change_nothing(in_folder):
    solver = make_solver('snapshot_prefix: "q"')
    paths = solver.snapshot()
    wrong = make_solver("", INPUT_NET.replace("num_output: 4", "num_output: 5"))
    wrong.net.save(paths.model)
    (in_folder / paths.sidecar).unlink()
    unchanged_after(solver, paths.state, WeightsError, "ip2")


def test_history_survives_double_precision(in_folder):
    first = make_solver('snapshot_prefix: "q" momentum: 0.9', dtype=np.float64)
    feed(first)
    first.step(2)
    path = first.snapshot().state
    second = make_solver("momentum: 0.9", dtype=np.float64)
    second.restore(path)
    assert digest(second) == digest(first)
