"""Finding snapshots: damaged ones are told, the newest whole one is taken."""

from __future__ import annotations

import shutil

import pytest

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.solver.resume import find_newest_snapshot, open_snapshot
from tests.solver.support import GOLDEN, feed, make_solver

ENDINGS = ("caffemodel", "solverstate", "poseidonstate")


@pytest.fixture
def three(in_folder):
    """Snapshots after 2, 4 and 10 iterations."""
    solver = make_solver('snapshot_prefix: "p" momentum: 0.9')
    feed(solver)
    for target in (2, 4, 10):
        solver.step(target - solver.iteration)
        solver.snapshot()
    return in_folder


def test_none_at_all(in_folder):
    assert find_newest_snapshot("p") is None
    assert find_newest_snapshot("no/such/folder/p") is None


def test_the_newest_by_number_not_by_name(three):
    assert find_newest_snapshot("p") == "p_iter_10.solverstate"
    assert find_newest_snapshot(str(three / "p")) == str(
        three / "p_iter_10.solverstate"
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "empty"])
def test_a_damaged_one_is_passed_over(three, ending, damage):
    path = three / f"p_iter_10.{ending}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-9], "flip": data, "empty": b""}[damage])
    found = find_newest_snapshot("p")
    if (ending, damage) == ("poseidonstate", "remove"):
        assert found == "p_iter_10.solverstate"  # a bare Caffe pair then
    else:
        assert found == "p_iter_4.solverstate"


def test_a_bare_pair_must_be_readable(three):
    (three / "p_iter_10.poseidonstate").unlink()
    model = three / "p_iter_10.caffemodel"
    model.write_bytes(model.read_bytes()[:-9])
    assert find_newest_snapshot("p") == "p_iter_4.solverstate"


def test_states_of_other_prefixes_do_not_count(three):
    for ending in ENDINGS:
        shutil.copy(three / f"p_iter_10.{ending}", three / f"pp_iter_99.{ending}")
        shutil.copy(three / f"p_iter_10.{ending}", three / f"p_iter_9x.{ending}")
    assert find_newest_snapshot("p") == "p_iter_10.solverstate"


def test_hdf5(in_folder):
    pytest.importorskip("h5py")
    solver = make_solver('snapshot_prefix: "p" snapshot_format: HDF5')
    solver.snapshot()
    assert find_newest_snapshot("p") == "p_iter_0.solverstate.h5"


def test_leftovers_of_killed_runs_are_removed(three):
    ours = [
        ".p_iter_12.caffemodel.4242.0123abcd.tmp",
        "..p_iter_12.caffemodel.4242.0123abcd.tmp.4242.89abcdef.tmp",
    ]
    others = ["notes.tmp", ".q_iter_12.caffemodel.4242.0123abcd.tmp"]
    for name in ours + others:
        (three / name).touch()
    find_newest_snapshot("p")
    left = [path.name for path in three.iterdir()]
    assert not set(ours) & set(left)
    assert set(others) <= set(left)


@pytest.mark.parametrize("ending", ["caffemodel", "solverstate"])
def test_damage_is_told_when_the_snapshot_is_named(three, ending):
    path = three / f"p_iter_10.{ending}"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SnapshotError, match=rf"p_iter_10\.{ending}: damaged, cut off"):
        open_snapshot("p_iter_10.solverstate")


def test_missing_weights_are_told(three):
    (three / "p_iter_10.caffemodel").unlink()
    with pytest.raises(SnapshotError, match=r"weights it belongs to are missing"):
        open_snapshot("p_iter_10.solverstate")


def test_missing_state_is_told(in_folder):
    with pytest.raises(SnapshotError, match=r"x\.solverstate"):
        open_snapshot("x.solverstate")


def test_weights_in_place_of_a_state(three):
    with pytest.raises(SnapshotError, match=r"resume from p_iter_10\.solverstate"):
        open_snapshot("p_iter_10.caffemodel")


def test_renamed_caffe_pair(tmp_path):
    for ending in ("caffemodel", "solverstate"):
        shutil.copy(
            GOLDEN / "solvers" / f"resume_sgd.{ending}", tmp_path / f"mine.{ending}"
        )
    found = open_snapshot(str(tmp_path / "mine.solverstate"))
    assert found.model == tmp_path / "mine.caffemodel"
    assert found.sidecar is None


def test_weights_beside_the_state_win_over_none(three, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    found = open_snapshot(str(three / "p_iter_4.solverstate"))
    assert found.model == three / "p_iter_4.caffemodel"
    assert found.state.iteration == 4
