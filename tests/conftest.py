"""What all tests share: where recordings lie, and what this machine lacks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.devices import ON_CUDA, greet_gpu, lost_gpu

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"cpu", "numpy", "reference"}


@pytest.fixture(scope="session")
def repo() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """Recordings of Caffe 1.0."""
    return ROOT / "tests" / "golden"


def _missing(marker: str) -> str:
    """Why tests of this marker cannot run here; empty when they can."""
    if marker == "mpi":
        # The wheel's mpirun lies beside the interpreter, on PATH or not.
        beside = Path(sys.executable).with_name("mpirun")
        return "" if beside.exists() or shutil.which("mpirun") else "no mpirun"
    if marker == "netns":
        able = os.geteuid() == 0 and shutil.which("ip")
        return "" if able else "needs root and the ip command"
    return "" if Path("/dev/nvidiactl").exists() else "no NVIDIA device"


def _mark_gpu(item: pytest.Item) -> None:
    """Mark what runs on the tests' GPU backend, for ``make test-gpu`` to choose.

    That is what has "gpu" among its parameters, or uses `tests.devices.gpu_ops`
    and no other backend's name.
    """
    folder = ROOT / "tests" / "backend" / "gpu"
    if folder / "emulator" in item.path.parents:
        if ON_CUDA:
            item.add_marker(pytest.mark.skip(reason="of the emulator; CUDA is tested"))
        return
    callspec = getattr(item, "callspec", None)
    values = list(callspec.params.values()) if callspec else []
    # A kit's parameter is a tuple that begins with the backend.
    names = {v[0] if isinstance(v, tuple) and v else v for v in values if _named(v)}
    own = hasattr(getattr(item, "module", None), "gpu_ops") and not names & OTHERS
    if "gpu" in names or own or folder in item.path.parents:
        item.add_marker(pytest.mark.on_gpu)


def _named(value: object) -> bool:
    first = value[0] if isinstance(value, tuple) and value else value
    return isinstance(first, str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine has no means for."""
    reasons = {marker: _missing(marker) for marker in ("mpi", "netns", "gpu")}
    for item in items:
        _mark_gpu(item)
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure() -> None:
    """Let Ctrl-C through, which a shell's background job (``&``) is started without.

    Programs that tests start would inherit that, and tests of SIGINT would hang.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_GREETING = pytest.StashKey[str]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Try the GPU of ``make test-gpu``; the end, with the reason, if nothing works."""
    if not ON_CUDA or session.config.option.collectonly:
        return
    try:
        session.config.stash[_GREETING] = greet_gpu()
    except Exception as error:  # noqa: BLE001 - thousands of tests would say so too
        pytest.exit(f"the GPU does not work: {type(error).__name__}: {error}", 1)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What the tests ran on, where the end of a long report can be read."""
    if _GREETING in config.stash:
        terminalreporter.line(f"GPU: {config.stash[_GREETING]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Stop at a test that the GPU did not survive: all others would fail as well."""
    report = yield
    if report.failed and (said := lost_gpu()) is not None:
        item.session.shouldfail = f"the GPU was lost in {item.nodeid}: {said}"
    return report
