"""Snapshots are whole or absent, whatever fails in between."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest

from poseidon_caffe.errors import NumericsError, SnapshotError
from poseidon_caffe.schema.upgrade import parse_solver
from poseidon_caffe.solver.events import SnapshotFailed, SnapshotWritten
from poseidon_caffe.solver.resume import find_newest_snapshot, open_snapshot
from poseidon_caffe.solver.snapshot import (
    SnapshotPaths,
    probe_prefix,
    snapshot_prefix,
)
from tests.solver.support import feed, make_solver

ORDER = ("caffemodel", "poseidonstate", "solverstate")


class Killed(BaseException):
    """Stands for SIGKILL: nothing that follows is executed."""


def trained(text="", **options):
    solver = make_solver(f'snapshot_prefix: "p" momentum: 0.9 {text}', **options)
    feed(solver)
    solver.step(2)
    return solver


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_names():
    assert SnapshotPaths.of("a/b", 7, is_hdf5=False) == SnapshotPaths(
        "a/b_iter_7.caffemodel", "a/b_iter_7.solverstate", "a/b_iter_7.poseidonstate"
    )
    assert SnapshotPaths.of("b", 7, is_hdf5=True).state == "b_iter_7.solverstate.h5"


def test_prefixes(tmp_path):
    (tmp_path / "folder").mkdir()

    def prefix(text, path=""):
        return snapshot_prefix(parse_solver(text), path)

    assert prefix('snapshot_prefix: "x/y"', "z.prototxt") == "x/y"
    assert prefix("", "a/z.prototxt") == "a/z"
    folder = f'snapshot_prefix: "{tmp_path}/folder"'
    assert prefix(folder, "a/z.prototxt") == f"{tmp_path}/folder/z"
    assert prefix(folder) == f"{tmp_path}/folder/snapshot"
    with pytest.raises(SnapshotError, match="snapshot_prefix is not set"):
        prefix("")


def test_unwritable_prefix_is_told_at_the_start(in_folder):
    with pytest.raises(SnapshotError, match=r"cannot write in the folder .*no/such"):
        make_solver('snapshot: 5 snapshot_prefix: "no/such/p"')
    solver = make_solver('snapshot_prefix: "no/such/p"')  # perhaps never wanted
    with pytest.raises(SnapshotError, match="make the folder"):
        solver.solve()
    assert solver.iteration == 0
    probe_prefix("p")
    assert not list(in_folder.iterdir())


@pytest.mark.parametrize("calls", range(13))
def test_killed_between_any_two_steps(in_folder, monkeypatch, calls):
    """Die at the n-th fsync or rename of a second snapshot."""
    solver = trained()
    solver.snapshot()
    feed(solver)
    solver.step(2)
    left = calls
    done = []
    originals = (os.fsync, Path.replace, Path.unlink)

    def die_in_time(call):
        def counted(*args, **kwargs):
            nonlocal left
            if left <= 0:
                raise Killed
            left -= 1
            done.append(args)
            return call(*args, **kwargs)

        return counted

    def no_cleaning(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(os, "fsync", die_in_time(originals[0]))
    monkeypatch.setattr(Path, "replace", die_in_time(originals[1]))
    monkeypatch.setattr(Path, "unlink", no_cleaning)
    try:
        solver.snapshot()
        finished = True
    except Killed:
        finished = False
    monkeypatch.undo()
    monkeypatch.chdir(in_folder)
    second = [name for name in visible(in_folder) if "iter_4" in name]
    # In order: a prefix of model, sidecar, state.
    assert second == sorted(f"p_iter_4.{end}" for end in ORDER[: len(second)])
    whole = len(second) == 3
    assert whole or not finished
    newest = find_newest_snapshot("p")
    assert newest == f"p_iter_{4 if whole else 2}.solverstate"
    open_snapshot(newest)
    assert not [p for p in in_folder.iterdir() if p.name.startswith(".")]
    again = trained()
    again.restore(newest)
    assert again.iteration == (4 if whole else 2)


def test_the_kill_points_above_reach_into_every_file(in_folder, monkeypatch):
    solver = trained()
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("s") or fsync(fd))
    monkeypatch.setattr(
        Path, "replace", lambda a, b: calls.append(str(b)) or replace(a, b)
    )
    solver.snapshot()
    finals = [Path(c).suffix for c in calls if c.endswith(ORDER)]
    assert finals == [f".{end}" for end in ORDER]
    assert calls.index(str(in_folder / "p_iter_2.caffemodel")) < 13


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("failing", ORDER)
def test_full_disk_leaves_what_was_there(
    in_folder, monkeypatch, failing, form, recorder
):
    if form == "HDF5":
        pytest.importorskip("h5py")
    solver = trained(f"snapshot_format: {form}", events=[recorder])
    solver.snapshot()
    before = visible(in_folder)
    solver.step(2)
    fsync = os.fsync

    def full(descriptor):
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if failing in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        SnapshotError, match=rf"p_iter_4\.{failing}\S*: .*No space left"
    ):
        solver.snapshot()
    assert visible(in_folder) == before
    assert len(list(in_folder.iterdir())) == len(before)
    assert len(recorder.of(SnapshotWritten)) == 1


def test_training_goes_on_when_the_disk_is_full_and_recovers(
    in_folder, monkeypatch, recorder
):
    solver = trained("snapshot: 3 max_iter: 9", events=[recorder])
    fsync = os.fsync
    full = [True]

    def sometimes(descriptor):
        if full[0] and not Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.ENOSPC, "No space left on device")
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sometimes)
    solver.callbacks.on_start.append(lambda: full.__setitem__(0, solver.iteration < 5))
    solver.solve()
    assert [e.iteration for e in recorder.of(SnapshotFailed)] == [3]
    assert [e.iteration for e in recorder.of(SnapshotWritten)] == [6, 9]
    assert "p_iter_3" not in " ".join(visible(in_folder))


def test_a_lost_last_snapshot_is_an_error_at_the_end(in_folder, monkeypatch, recorder):
    solver = trained("max_iter: 4 display: 2", events=[recorder])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match="No space left"):
        solver.solve()
    assert recorder.names()[-2:] == ["FinalLoss", "Finished"]
    assert not list(in_folder.iterdir())


def test_a_bare_state_is_not_left_beside_a_new_model(in_folder, monkeypatch):
    solver = trained()
    paths = solver.snapshot()
    Path(paths.sidecar).unlink()
    replace = Path.replace

    def but_the_sidecar(path, target):
        if str(target).endswith("poseidonstate"):
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", but_the_sidecar)
    with pytest.raises(Killed):
        solver.snapshot()
    assert visible(in_folder) == ["p_iter_2.caffemodel"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_parameters_that_are_no_numbers_are_not_stored(in_folder, bad):
    """A ReLU may hide them from the loss."""
    solver = trained()
    blob = solver.net.learnable[-1]
    blob.data.reshape(-1)[0] = bad
    blob.touch()
    before = visible(in_folder)
    with pytest.raises(NumericsError, match=r"parameter \d of layer .*no snapshot"):
        solver.snapshot()
    assert visible(in_folder) == before
