"""Who may use NCCL, and what is said to the others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.cli import reducing as module
from poseidon_caffe.cli.cluster_flags import CLUSTER_FLAGS
from poseidon_caffe.cli.flags import parse
from poseidon_caffe.cli.reducing import (
    Seat,
    meet,
    obstacle,
    open_reducer,
    wants_device_factors,
    wants_nccl,
)
from poseidon_caffe.errors import BackendError, UsageError

SEATS = [Seat("a", f"0000:0{k}:00.0") for k in range(3)]
EMULATED = [replace(seat, is_emulated=True) for seat in SEATS]
TWO_MACHINES = [*SEATS[:2], Seat("b", "0000:00:00.0")]
SHARED = [SEATS[0], SEATS[1], SEATS[0]]
WITHOUT = [*SEATS[:2], Seat("a")]
BROKEN = [SEATS[0], replace(SEATS[1], problem="NCCL 20500 is too old")]


def given(*argv):
    return parse(argv, CLUSTER_FLAGS)


def test_one_gpu_for_each_rank_of_one_machine():
    assert obstacle(SEATS) is None
    assert wants_nccl(given(), SEATS)
    assert wants_nccl(given("--nccl=on"), SEATS)
    assert not wants_nccl(given("--nccl=off"), SEATS)
    assert not wants_nccl(given("--nonccl"), SEATS)
    assert not wants_nccl(given(), SEATS[:1])


def test_what_stands_in_for_it_must_be_asked_for():
    assert not wants_nccl(given(), EMULATED)
    assert wants_nccl(given("--nccl=on"), EMULATED)


@pytest.mark.parametrize(
    ("seats", "why"),
    [
        (TWO_MACHINES, "the ranks are on several machines"),
        (SHARED, "some ranks share a GPU"),
        (WITHOUT, "not every rank computes on a GPU"),
        (BROKEN, "NCCL 20500 is too old"),
    ],
)
def test_where_it_cannot_be(seats, why):
    assert not wants_nccl(given(), seats)
    with pytest.raises(UsageError, match=f"--nccl on: {why}; leave"):
        wants_nccl(given("--nccl=on"), seats)


@pytest.mark.parametrize(
    "flag",
    ["--servers=1", "--staleness=2", "--svb=on", "--overlap=off", "--force_ssp"],
)
def test_what_only_servers_obey(flag):
    assert not wants_nccl(given(flag), SEATS)
    words = flag.replace("=", " ")
    with pytest.raises(UsageError, match=f"{words} is the parameter server's"):
        wants_nccl(given(flag, "--nccl=on"), SEATS)


def test_seats_are_told():
    class Echo:
        def all_gather(self, topic, payload):
            return [payload, payload]

        def broadcast(self, topic, payload):
            return payload

    seat = Seat.of("here", GpuSettings(device=1, emulated=True))
    assert seat == Seat("here", "emulated 1", "", is_emulated=True)
    assert meet(Echo(), seat) == [seat, seat]
    assert Seat.of("here", None) == Seat("here")


def test_factors_that_stay_on_the_gpu(monkeypatch):
    real, emulated = GpuSettings(device=0), GpuSettings(device=0, emulated=True)
    for says, wanted in ((True, True), (False, False)):
        monkeypatch.setattr(module, "mpi_takes_device_memory", lambda says=says: says)
        assert wants_device_factors(given(), real) == wanted
        assert wants_device_factors(given("--cuda_aware_mpi"), real)
        assert not wants_device_factors(given("--cuda_aware_mpi=off"), real)
        assert not wants_device_factors(given("--cuda_aware_mpi=on"), None)
        # The emulator's memory is the processor's: any MPI takes it, when told to.
        assert not wants_device_factors(given(), emulated)
        assert wants_device_factors(given("--cuda_aware_mpi=on"), emulated)


def test_a_rank_that_nccl_fails_on_waits_for_nobody(monkeypatch):
    """The others wait for it in NCCL, where they hear nothing."""

    class Connecting:
        """The ranks together make an id; thereafter the others never come again."""

        steps = 0

        def together(self, step):
            self.steps += 1
            assert self.steps == 1
            return step()

        def broadcast(self, topic, payload):
            return b'{"values": [1], "is_bytes": true}'

    def fails(*arguments):
        assert arguments[1:3] == (2, 1)
        raise BackendError("NCCL cannot connect the GPUs: no network")

    monkeypatch.setattr(module, "NcclReducer", fails)
    talk = Connecting()
    cluster = SimpleNamespace(courier=SimpleNamespace(rank=1, size=2))
    with pytest.raises(BackendError, match="no network"):
        open_reducer(cluster, talk, talk, SimpleNamespace(ops=None), SEATS[0])
