"""Fixtures of the solver's tests."""

from __future__ import annotations

import pytest

from tests.solver.support import LMDB_NET, Recorder, make_solver, write_lmdb


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lmdb_solver(in_folder):
    """Makes solvers on one small LMDB, with dropout, crops and mirroring."""
    write_lmdb(in_folder)
    made = []

    def make(text="", **options):
        text = f'snapshot_prefix: "p" {text}'
        solver = make_solver(text, LMDB_NET.format(folder=in_folder), **options)
        made.append(solver)
        return solver

    yield make
    for solver in made:
        solver.close()
