"""What ``make test-gpu`` says where a GPU does not work, or stops to."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests import conftest, devices


@pytest.fixture
def answers(monkeypatch):
    """What a GPU says to each `deviceSynchronize`: an error, or None for none."""
    said: list[Exception | None] = []

    def wait():
        error = said.pop(0)
        if error:
            raise error

    runtime = SimpleNamespace(deviceSynchronize=wait)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(devices, "ON_CUDA", True)
    return said


def test_a_gpu_is_lost_when_its_error_stays(answers):
    error = RuntimeError("cudaErrorIllegalAddress")
    for answers[:], want in (
        ([None], None), ([error, None], None), ([error, error], str(error))
    ):  # fmt: skip
        assert devices.lost_gpu() == want
        assert not answers


def test_without_a_gpu_none_is_asked(monkeypatch):
    monkeypatch.setattr(devices, "ON_CUDA", False)
    assert devices.lost_gpu() is None


def session(*, collectonly=False):
    option = SimpleNamespace(collectonly=collectonly)
    return SimpleNamespace(config=SimpleNamespace(option=option, stash={}))


def test_a_gpu_that_does_not_work_ends_the_tests(monkeypatch):
    def fail():
        raise RuntimeError("no cuBLAS")

    monkeypatch.setattr(conftest, "greet_gpu", fail)
    monkeypatch.setattr(conftest, "ON_CUDA", False)
    conftest.pytest_sessionstart(session())
    monkeypatch.setattr(conftest, "ON_CUDA", True)
    conftest.pytest_sessionstart(session(collectonly=True))
    with pytest.raises(pytest.exit.Exception, match="not work: RuntimeError: no cuBL"):
        conftest.pytest_sessionstart(session())


def test_what_the_tests_ran_on_is_told(monkeypatch):
    monkeypatch.setattr(conftest, "ON_CUDA", True)
    monkeypatch.setattr(conftest, "greet_gpu", lambda: "H100, cuDNN 9.1.0")
    ours, lines = session(), []
    terminal = SimpleNamespace(line=lines.append)
    conftest.pytest_terminal_summary(terminal, ours.config)
    assert not lines
    conftest.pytest_sessionstart(ours)
    conftest.pytest_terminal_summary(terminal, ours.config)
    assert lines == ["GPU: H100, cuDNN 9.1.0"]


def test_a_test_that_loses_the_gpu_is_the_last(monkeypatch):
    monkeypatch.setattr(conftest, "lost_gpu", lambda: "cudaErrorIllegalAddress")
    told = "the GPU was lost in a::b: cudaErrorIllegalAddress"
    for failed, want in ((False, None), (True, told)):
        running = SimpleNamespace(shouldfail=None)
        item = SimpleNamespace(nodeid="a::b", session=running)
        hook = conftest.pytest_runtest_makereport(item)
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(SimpleNamespace(failed=failed))
        assert running.shouldfail == want
