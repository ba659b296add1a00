"""A rank that breaks ends the job and is named."""

from __future__ import annotations

import sys
import threading

import pytest

from poseidon_caffe.comm.aborting import abort_unless_done, install_hooks
from poseidon_caffe.comm.fake import FakeAbortError, FakeNetwork
from poseidon_caffe.errors import DataError
from tests.comm.launch import RANKS, mpirun


class _Job:
    def __init__(self):
        self.network = FakeNetwork(2)
        self.transport = self.network.transport(1)
        self.told = []

    def tell(self, line, trace):
        self.told.append((line, trace))


@pytest.fixture
def job():
    return _Job()


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (DataError("record 7\n  is damaged"), "DataError: record 7 is damaged", 1),
        (KeyError("x"), "KeyError: 'x'", 1),
        (AssertionError(), "AssertionError", 1),
        (SystemExit(0), "left by sys.exit(0) before training was done", 1),
        (SystemExit("bye"), "left by sys.exit('bye') before training was done", 1),
        (KeyboardInterrupt(), "KeyboardInterrupt", 130),
    ],
)
def test_leaving_early_aborts_with_one_line_and_the_trace(job, error, words, code):
    with pytest.raises(FakeAbortError), abort_unless_done(job.transport, job.tell):
        raise error
    ((line, trace),) = job.told
    assert line == f"rank 1 on localhost (pid 1001): {words}"
    assert "test_leaving_early_aborts" in trace
    assert job.network.aborted == (1, code)


def test_a_block_that_ends_aborts_nothing(job):
    with abort_unless_done(job.transport, job.tell):
        pass
    assert not job.told
    assert job.network.aborted is None


def test_the_job_ends_though_nothing_can_be_told(job):
    def tell(line, trace):
        raise BrokenPipeError

    with pytest.raises(FakeAbortError), abort_unless_done(job.transport, tell):
        raise DataError("x")
    assert job.network.aborted == (1, 1)


def test_hooks_reach_every_thread_and_can_be_taken_away(job):
    kept = (sys.excepthook, threading.excepthook)
    restore = install_hooks(job.transport, job.tell)
    try:
        _start(lambda: 1 / 0)
        ((line, trace),) = job.told
        assert line.startswith("rank 1 on localhost (pid 1001) in thread reader: Zero")
        assert "<lambda>" in trace
        assert job.network.aborted == (1, 1)
        with pytest.raises(FakeAbortError):
            sys.excepthook(DataError, DataError("late"), None)
        assert job.told[1][0].endswith("(pid 1001): DataError: late")
    finally:
        restore()
    assert (sys.excepthook, threading.excepthook) == kept


def test_a_thread_may_end_by_sys_exit(job):
    restore = install_hooks(job.transport, job.tell)
    try:
        _start(sys.exit)
    finally:
        restore()
    assert not job.told
    assert job.network.aborted is None


def _start(function):
    thread = threading.Thread(target=function, name="reader")
    thread.start()
    thread.join()


_DAMAGED = "DataError: record 7 of digits_train_lmdb is damaged"


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("way", "words", "rc"),
    [
        ("raise", f": {_DAMAGED}", 1),
        ("outside", f": {_DAMAGED}", 1),
        ("thread", f" in thread reader: {_DAMAGED}", 1),
        ("exit", ": left by sys.exit(0) before training was done", 1),
        ("interrupt", ": KeyboardInterrupt", 130),
        ("return", ": ClusterError: rank 1 has ended, but rank 0 on ", 1),
        ("_exit", "", 5),
    ],
)
def test_a_broken_rank_leaves_none_hanging(way, words, rc):
    done = mpirun(3, RANKS / "breaks.py", way)
    assert done.rc == rc or done.mpirun_crashed, done.said
    assert done.stdout.count("running") == 3
    assert done.seconds < 30
    lines = [line for line in done.stderr.splitlines() if line.startswith("rank 1 on ")]
    assert len(lines) == (1 if words else 0), done.said
    assert all(words in line for line in lines), done.said
