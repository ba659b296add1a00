"""How many threads compute, and what NumPy's pools are told."""

from __future__ import annotations

import os

import pytest

from poseidon_caffe.cli.threads import choose, is_bound, prepare
from poseidon_caffe.errors import UsageError


def test_asked_for_wins():
    assert choose(5, {"OMP_NUM_THREADS": "2"}) == 5


@pytest.mark.parametrize(("preset", "count"), [("3", 3), ("4,2", 4)])
def test_then_openmps_own_variable(preset, count):
    assert choose(0, {"OMP_NUM_THREADS": preset}) == count


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (3, 2), (16, 15)])
def test_else_the_cores_less_one_for_data(monkeypatch, cores, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert choose(0, {}) == count
    assert choose(0, {"OMP_NUM_THREADS": "zero"}) == count


@pytest.mark.parametrize(
    ("cores", "ranks", "count"),
    [(16, 4, 3), (16, 8, 2), (8, 8, 1), (2, 4, 1), (16, 1, 15)],
)
def test_ranks_of_one_machine_share_its_cores(monkeypatch, cores, ranks, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert choose(0, {}, ranks) == count
    assert choose(9, {}, ranks) == 9
    assert choose(0, {"OMP_NUM_THREADS": "7"}, ranks) == 7


def test_a_rank_that_mpirun_bound_has_its_cores_for_itself(monkeypatch):
    def cores_of(pid: int) -> set[int]:
        return set(range(16 if pid else 4))

    monkeypatch.setattr(os, "sched_getaffinity", cores_of)
    assert is_bound()
    assert choose(0, {}, 4) == 3


def test_a_machine_that_tells_nothing_of_bonds(monkeypatch):
    def nothing(pid: int) -> set[int]:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", nothing)
    assert not is_bound()


def test_negative_is_refused():
    with pytest.raises(UsageError, match="-2"):
        choose(-2, {})


def test_every_pool_is_told():
    variables: dict[str, str] = {"OPENBLAS_NUM_THREADS": "64"}
    assert prepare(2, variables) == 2
    assert variables["OMP_NUM_THREADS"] == "2"
    assert variables["OPENBLAS_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("preset", "spins"),
    [
        ({}, "20000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_how_long_threads_spin_may_be_chosen(preset, spins):
    variables = dict(preset)
    prepare(1, variables)
    assert variables.get("GOMP_SPINCOUNT") == spins
