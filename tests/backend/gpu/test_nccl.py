"""What can be said of NCCL without GPUs."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.nccl import NcclId, NcclReducer, nccl_problem
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import there
from tests.devices import ON_CUDA


def test_an_id_is_what_cupy_gave():
    assert NcclId([1, 255], is_bytes=True).raw() == b"\x01\xff"
    assert NcclId([1, -1], is_bytes=False).raw() == (1, -1)


def test_where_it_is_missing_the_reason_is_told():
    problem = nccl_problem()
    if problem is None:
        assert ON_CUDA
    else:
        assert "NCCL" in problem


class NcclError(RuntimeError):
    """As CuPy's."""


class Communicator:
    """CuPy's, which notes what it is given or fails."""

    fails = ""
    calls: list

    def __init__(self, size, nccl_id, rank):
        if self.fails == "connecting":
            raise NcclError("NCCL_ERROR_SYSTEM_ERROR: no network")
        Communicator.calls = [(size, nccl_id, rank)]

    def allReduce(self, *arguments):
        if self.fails == "reducing":
            raise NcclError("NCCL_ERROR_REMOTE_ERROR: remote process exited")
        self.calls.append(arguments)


@pytest.fixture
def device(monkeypatch):
    """A GPU that does nothing, and a CuPy that has NCCL."""
    nccl = SimpleNamespace(NcclCommunicator=Communicator, NcclError=NcclError)
    monkeypatch.setitem(sys.modules, "cupy.cuda", SimpleNamespace(nccl=nccl))
    monkeypatch.setattr(Communicator, "fails", "")
    stream = SimpleNamespace(
        wait_for=lambda event: None, record=lambda: "event",
        raw=SimpleNamespace(ptr=0x50),
    )  # fmt: skip
    return SimpleNamespace(
        stream=lambda: stream, compute=stream, claim=lambda: None,
        on_this_thread=nullcontext,
    )  # fmt: skip


def reducer(device):
    return NcclReducer(SimpleNamespace(device=device), 2, 1, NcclId([7], is_bytes=True))


def test_a_mean_is_in_place_on_its_own_stream(device):
    array = there(np.zeros(6))
    assert reducer(device).mean(array) == "event"
    place = array.data.ptr
    # ncclFloat32 and ncclAvg of nccl.h.
    assert Communicator.calls == [(2, b"\7", 1), (place, place, 6, 7, 4, 0x50)]


def test_failures_are_told_with_a_way_out(device, monkeypatch):
    made = reducer(device)
    monkeypatch.setattr(Communicator, "fails", "reducing")
    with pytest.raises(BackendError, match=r"REMOTE_ERROR: .*; --nccl off"):
        made.mean(there(np.zeros(6)))
    monkeypatch.setattr(Communicator, "fails", "connecting")
    with pytest.raises(BackendError, match=r"cannot connect .*no network; --nccl"):
        reducer(device)
