"""The sidecar file and its checksums."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.solver.sidecar import FileMark, Sidecar, mark_of, plain_json
from poseidon_caffe.solver.worker_state import WorkerState


@pytest.fixture
def sidecar(tmp_path):
    marks = []
    for name in ("a.caffemodel", "a.solverstate"):
        (tmp_path / name).write_bytes(name.encode() * 300_000)
        marks.append(mark_of(tmp_path / name, name))
    generator = np.random.default_rng(5).bit_generator.state
    return Sidecar(
        iteration=5,
        model=marks[0],
        state=marks[1],
        workers=[
            WorkerState(
                train={"data": {"position": np.int64(7), "draws": np.arange(3)}},
                tests=[{}, {"d": {"generator": generator}}],
                losses=[0.1, 1 / 3],
            ),
            WorkerState(losses=[0.5]),
        ],
        dealt=[3, 0],
        seed=2**63 - 1,
        world=2,
    )


def test_round_trip_is_exact(tmp_path, sidecar):
    path = tmp_path / "a.poseidonstate"
    path.write_text(sidecar.to_json())
    found = Sidecar.read(path)
    first, second = found.workers
    assert first.train == {"data": {"position": 7, "draws": [0, 1, 2]}}
    assert first.tests == sidecar.workers[0].tests
    assert first.losses == [0.1, 1 / 3]
    assert second == sidecar.workers[1]
    assert found.dealt == [3, 0]
    assert (found.seed, found.world, found.iteration) == (2**63 - 1, 2, 5)
    assert found.model == sidecar.model
    assert found.to_json() == sidecar.to_json()


def test_whole_until_a_byte_changes(tmp_path, sidecar):
    assert sidecar.is_whole(tmp_path)
    path = tmp_path / "a.caffemodel"
    data = bytearray(path.read_bytes())
    data[1_234_567] ^= 1
    path.write_bytes(data)
    assert not sidecar.is_whole(tmp_path)
    path.write_bytes(data[:-1])
    assert not sidecar.is_whole(tmp_path)
    path.unlink()
    assert not sidecar.is_whole(tmp_path)


def test_sizes_are_right(sidecar):
    assert sidecar.model.size_bytes == 12 * 300_000
    assert len(sidecar.model.sha256) == 64
    assert sidecar.model.sha256 != sidecar.state.sha256


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', "\x00\xff"])
def test_damaged(tmp_path, text):
    path = tmp_path / "x.poseidonstate"
    path.write_text(text)
    with pytest.raises(SnapshotError, match=r"damaged.*remove it to resume"):
        Sidecar.read(path)


def test_newer_versions_are_not_guessed_at(tmp_path, sidecar):
    path = tmp_path / "x.poseidonstate"
    newer = {**json.loads(sidecar.to_json()), "version": 99, "unknown": 1}
    path.write_text(json.dumps(newer))
    with pytest.raises(SnapshotError, match=r"newer Poseidon \(format 99"):
        Sidecar.read(path)


def test_format_1_is_read(tmp_path, sidecar):
    written = json.loads(sidecar.to_json())
    first = written.pop("workers")[0]
    del written["dealt"]
    path = tmp_path / "x.poseidonstate"
    path.write_text(json.dumps({**written, **first, "world": 1, "version": 1}))
    found = Sidecar.read(path)
    assert found.workers == [WorkerState(**first)]
    assert (found.world, found.dealt, found.seed) == (1, [], 2**63 - 1)
    assert found.is_whole(tmp_path)


def test_without_any_worker_it_is_damaged(tmp_path, sidecar):
    path = tmp_path / "x.poseidonstate"
    path.write_text(json.dumps({**json.loads(sidecar.to_json()), "workers": []}))
    with pytest.raises(SnapshotError, match="no worker's state"):
        Sidecar.read(path)


def test_states_as_json_gives_them_back():
    value = {"a": np.float32(1.5), "b": (1, np.arange(2)), "c": [np.uint64(2**63)]}
    assert plain_json(value) == {"a": 1.5, "b": [1, [0, 1]], "c": [2**63]}


def test_states_that_are_no_json_are_a_bug_that_shows(sidecar):
    worker = WorkerState(train={"x": {"y": object()}})
    bad = Sidecar(1, sidecar.model, sidecar.state, [worker])
    with pytest.raises(TypeError, match="object in a layer's state"):
        bad.to_json()


def test_absent_files_match_nothing(tmp_path):
    assert not FileMark("x", 0, "").matches(tmp_path / "x")
