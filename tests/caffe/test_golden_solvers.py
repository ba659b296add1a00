"""Twelve steps of every solver and rate policy beside Caffe 1.0's parameters."""

from __future__ import annotations

import shutil

import pytest

from poseidon_caffe import caffe
from tests.caffe.backends import BACKENDS, replay_on, times
from tests.golden_support import GOLDEN, Recording, assert_close, cases

TRAJECTORY = 2.0  # tolerance, in units of a layer's
RESUMED_AFTER = 6


@pytest.fixture(params=BACKENDS)
def backend(request):
    with replay_on(request.param):
        yield request.param


def _solver(recording, folder, monkeypatch):
    monkeypatch.chdir(folder)
    recording.write("net", folder / "net.prototxt")
    return caffe.get_solver(recording.write("solver", folder / "solver.prototxt"))


def _set_parameters(net, recording):
    for key, values in recording.under("init"):
        layer, index = key.rsplit("/", 1)
        net.params[layer][int(index)].data[...] = values


def _run(solver, recording, first, within):
    """Feed the batches from ``first`` on; every parameter after every step."""
    for step in range(first, int(recording.arrays["steps"])):
        for blob, batches in recording.under("batch"):
            solver.net.blobs[blob].data[...] = batches[step]
        solver.step(1)
        assert solver.iter == step + 1
        loss = solver.net.blobs["loss"].data
        assert_close(loss, recording.arrays[f"loss/{step}"], f"loss/{step}", within)
        after = list(recording.under(f"after/{step}"))
        assert after
        for key, values in after:
            layer, index = key.rsplit("/", 1)
            got = solver.net.params[layer][int(index)].data
            assert_close(got, values, f"after/{step}/{key}", within)


@pytest.mark.parametrize("name", cases("solvers"))
def test_trajectory(name, backend, tmp_path, monkeypatch):
    recording = Recording.load("solvers", name)
    solver = _solver(recording, tmp_path, monkeypatch)
    _set_parameters(solver.net, recording)
    _run(solver, recording, 0, TRAJECTORY * times(backend))


RESUMED = [name for name in cases("solvers") if name.startswith("resume_")]


@pytest.mark.parametrize("name", RESUMED)
def test_caffes_own_snapshot_goes_on_as_caffe_did(name, backend, tmp_path, monkeypatch):
    recording = Recording.load("solvers", name)
    solver = _solver(recording, tmp_path, monkeypatch)
    files = sorted((GOLDEN / "solvers").glob(f"{name}.*"))
    (state,) = [path for path in files if ".solverstate" in path.name]
    (weights,) = [path for path in files if ".caffemodel" in path.name]
    # Under the names that Caffe gave them: the state names its weights.
    prefix = f"snap_iter_{RESUMED_AFTER}"
    for path in (state, weights):
        shutil.copy(path, tmp_path / path.name.replace(name, prefix))
    solver.restore(state.name.replace(name, prefix))
    assert solver.iter == RESUMED_AFTER
    for key, values in recording.under(f"after/{RESUMED_AFTER - 1}"):
        layer, index = key.rsplit("/", 1)
        got = solver.net.params[layer][int(index)].data
        assert_close(got, values, f"restored {key}", TRAJECTORY)
    _run(solver, recording, RESUMED_AFTER, TRAJECTORY * times(backend))


def test_both_forms_of_snapshot_are_covered():
    assert RESUMED == ["resume_sgd", "resume_sgd_h5"]
