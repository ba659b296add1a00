"""Solver states: Caffe's own, round trips, and what is no state."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.schema.binary import read_binary
from poseidon_caffe.schema.messages import SolverState
from poseidon_caffe.solver.state_file import (
    StateFile,
    read_state_file,
    write_state_file,
)
from tests.solver.support import GOLDEN

CAFFES = {
    False: GOLDEN / "solvers" / "resume_sgd.solverstate",
    True: GOLDEN / "solvers" / "resume_sgd_h5.solverstate.h5",
}
FORMS = pytest.mark.parametrize("is_hdf5", [False, True])


@FORMS
def test_caffes_state_is_read(is_hdf5):
    state = read_state_file(CAFFES[is_hdf5])
    assert state.iteration == 6
    assert state.current_step == 0
    assert state.learned_net == "snap_iter_6.caffemodel" + ".h5" * is_hdf5
    assert [a.shape for a in state.history] == [(10, 6), (10,), (4, 10), (4,)]
    assert all(np.abs(a).max() > 0 for a in state.history)


@FORMS
def test_round_trip(tmp_path, is_hdf5):
    history = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(0, np.float32)]
    path = tmp_path / "x"
    write_state_file(path, StateFile(7, "a/b.caffemodel", 2, history), is_hdf5=is_hdf5)
    found = read_state_file(path)
    assert (found.iteration, found.learned_net) == (7, "a/b.caffemodel")
    assert found.current_step == 2
    for a, b in zip(found.history, history, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape == b.shape
    assert list(tmp_path.iterdir()) == [path]


def test_ours_has_the_fields_that_caffes_has(tmp_path):
    caffes = read_binary(CAFFES[False], SolverState)
    state, path = read_state_file(CAFFES[False]), tmp_path / "x.solverstate"
    write_state_file(path, state, is_hdf5=False)
    assert read_binary(path, SolverState) == caffes


def test_ours_has_the_datasets_that_caffes_has(tmp_path):
    h5py = pytest.importorskip("h5py")

    def listing(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: found.update(
                    {
                        name: (
                            getattr(item, "shape", None),
                            str(getattr(item, "dtype", "")),
                        )
                    }
                )
            )
        return found

    path = tmp_path / "x.solverstate.h5"
    write_state_file(path, read_state_file(CAFFES[True]), is_hdf5=True)
    assert listing(path) == listing(CAFFES[True])


@FORMS
@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.9])
def test_truncated(tmp_path, is_hdf5, part):
    path = tmp_path / "cut.solverstate"
    data = CAFFES[is_hdf5].read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(SnapshotError, match=r"cut\.solverstate"):
        read_state_file(path)


def test_missing(tmp_path):
    with pytest.raises(SnapshotError, match=r"[Nn]o such"):
        read_state_file(tmp_path / "x.solverstate")


def test_weights_are_told_apart(tmp_path):
    model = tmp_path / "a_iter_6.caffemodel"
    shutil.copy(GOLDEN / "solvers" / "resume_sgd.caffemodel", model)
    with pytest.raises(SnapshotError, match=r"holds weights.*--weights"):
        read_state_file(model)
    (tmp_path / "a_iter_6.solverstate").touch()
    with pytest.raises(SnapshotError, match=r"resume from a_iter_6\.solverstate"):
        read_state_file(model)
    renamed = model.rename(tmp_path / "renamed.solverstate")
    with pytest.raises(SnapshotError):
        read_state_file(renamed)
