"""Several "hosts" on one machine: network namespaces joined by capped links.

Every host is a namespace with one interface, ``eth0``; a further namespace holds the
bridge that joins them, so nothing appears in the machine's own network.  Links are
capped at both ends, which makes them full duplex.  A host gives its processes a host
name and a /dev/shm of their own, so that MPI takes it for another machine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ROOT", "Finished", "Namespaces", "remove_leftovers", "why_not"]

ROOT = Path(__file__).resolve().parents[2]
_PREFIX = "pos"
_FOLDER = "poseidon-hosts-"
# Whose they are stands in their names: the number of the process that made them.
_OURS = re.compile(rf"(?:{_PREFIX}|{_FOLDER})(\d+)\D.*")
_serial = itertools.count()
# A token bucket this deep passes whole 64 KiB segments, yet is 2 ms at 1 Gbit/s.
_BURST_BYTES = 256 << 10
# What a switch port buffers before it drops, when several hosts send to one.
_QUEUE_BYTES = 4 << 20
# mpirun's stand-in for ssh, and what puts mpirun itself on the first host:
# drops ssh's options; the host's name is its namespace's.
_ENTER = """\
#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec "$host" unshare --uts --mount sh -c '
  hostname "$1" && mount -t tmpfs tmpfs /dev/shm && mount --bind "$2" /etc/hosts || exit
  shift 2
  eval "$*"' sh "$host" "$(dirname "$0")/hosts" "$@"
"""
_TOOLS = ("ip", "tc", "unshare", "mount", "hostname")


@dataclass(frozen=True)
class Finished:
    """How a run on the hosts ended.

    Attributes:
        code: exit status of mpirun; negative: the signal that ended it.
        stdout, stderr: of all ranks and mpirun.
    """

    code: int
    stdout: str
    stderr: str


def why_not() -> str:
    """Why hosts cannot be made here; empty when they can."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2, util-linux, hostname)"
    if os.geteuid() != 0:
        return "needs root"
    name = f"{_PREFIX}{os.getpid()}try"
    try:
        _sh("ip", "netns", "add", name)
        try:
            _sh("ip", "-n", name, "link", "add", "try", "type", "veth")
            _cap(name, "try", 1000)
            enter = ("unshare", "--uts", "--mount", "mount", "-t", "tmpfs", "t", "/mnt")
            _sh("ip", "netns", "exec", name, *enter)
        finally:
            _sh("ip", "netns", "del", name)
    except RuntimeError as error:
        return f"needs the privilege to make network namespaces: {error}"
    return ""


def remove_leftovers() -> list[str]:
    """Remove the hosts of runs that were killed; their names."""
    dead = _orphans(_names())
    _remove(dead)
    temporary = Path(tempfile.gettempdir())
    for folder in _orphans(path.name for path in temporary.glob(f"{_FOLDER}*")):
        shutil.rmtree(temporary / folder, ignore_errors=True)
    return dead


def _orphans(names: Iterable[str]) -> list[str]:
    """Those of ours whose maker no longer lives."""
    ours = [match for name in names if (match := _OURS.fullmatch(name))]
    return [m.group() for m in ours if not Path(f"/proc/{m.group(1)}").exists()]


class Namespaces:
    """Hosts that exist while the ``with`` block runs.

    Args:
        count: how many.
        mbps: rate of every link in each direction, Mbit/s; 0: not capped.

    Attributes:
        hosts: their names.

    Raises:
        RuntimeError: a command failed (see `why_not`).
    """

    def __init__(self, count: int, mbps: float = 1000) -> None:
        self.mbps = mbps
        prefix = f"{_PREFIX}{os.getpid()}x{next(_serial)}"
        self._switch = f"{prefix}sw"
        self.hosts = [f"{prefix}n{i}" for i in range(count)]
        self._folder: Path | None = None
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _make(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        lines = [f"{address(i)} {host}" for i, host in enumerate(self.hosts)]
        names = "\n".join(["127.0.0.1 localhost", *lines, ""])
        (self._folder / "hosts").write_text(names, encoding="utf-8")
        self._enter.write_text(_ENTER, encoding="utf-8")
        self._enter.chmod(0o755)
        _sh("ip", "netns", "add", self._switch)
        _ip(self._switch, "link", "add", "bridge", "type", "bridge")
        _ip(self._switch, "link", "set", "bridge", "up")
        for i, host in enumerate(self.hosts):
            _sh("ip", "netns", "add", host)
            self._join(i, host)

    def _join(self, index: int, host: str) -> None:
        """Join a host to the bridge by a pair of interfaces, both of them capped."""
        switch, port = self._switch, f"port{index}"
        peer = ("peer", "name", "eth0", "netns", host)
        _ip(switch, "link", "add", port, "type", "veth", *peer)
        _ip(switch, "link", "set", port, "master", "bridge")
        _ip(host, "addr", "add", f"{address(index)}/24", "dev", "eth0")
        for where, device in ((switch, port), (host, "lo"), (host, "eth0")):
            _ip(where, "link", "set", device, "up")
        if self.mbps:
            _cap(switch, port, self.mbps)
            _cap(host, "eth0", self.mbps)

    def _remove(self) -> None:
        for process in self._running:
            self._end(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._running.clear()
        _remove([*self.hosts, self._switch])
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _enter(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the hosts exist inside a `with` block only")
        return self._folder / "enter"

    # -- links -----------------------------------------------------------------------
    def cut(self, host: int) -> None:
        """Cut the link of a host: nothing arrives any more, and nobody is told."""
        _ip(self._switch, "link", "set", f"port{host}", "down")

    def restore(self, host: int) -> None:
        """Mend the link of a host."""
        _ip(self._switch, "link", "set", f"port{host}", "up")

    def sent_bytes(self, host: int) -> int:
        """Bytes that a host has sent so far, headers included."""
        return self._counter(host, "tx")

    def received_bytes(self, host: int) -> int:
        """Bytes that a host has received so far, headers included."""
        return self._counter(host, "rx")

    def _counter(self, host: int, kind: str) -> int:
        path = f"/sys/class/net/eth0/statistics/{kind}_bytes"
        return int(_sh("ip", "netns", "exec", self.hosts[host], "cat", path))

    def pids(self, host: int) -> list[int]:
        """Processes that run on a host: the ranks, and mpirun or its daemon."""
        return _pids(self.hosts[host])

    # -- programs --------------------------------------------------------------------
    def start(
        self,
        program: Sequence[str],
        *,
        ranks_per_host: int = 1,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start ``program`` under mpirun on all hosts, ranks dealt host by host.

        Args:
            program: command with arguments; the checkout is the current folder.
            ranks_per_host: processes on every host.
            env: variables set for mpirun and every rank.
            options: further ones of mpirun, such as ``--with-ft ulfm``.

        Returns:
            mpirun, with pipes for its output; it ends, and they close, with the hosts
            at the latest.
        """
        mpirun = Path(sys.executable).with_name("mpirun")
        slots = ",".join(f"{host}:{ranks_per_host}" for host in self.hosts)
        ranks = ranks_per_host * len(self.hosts)
        placed = f"ppr:{ranks_per_host}:node:oversubscribe"
        given = dict(env or {})
        exported = [word for name in given for word in ("-x", name)]
        command = [
            str(mpirun if mpirun.exists() else "mpirun"), "--allow-run-as-root",
            "--host", slots, "-n", str(ranks), "--map-by", placed,
            "--bind-to", "none", *exported, *options, *program,
        ]  # fmt: skip
        process = subprocess.Popen(
            [str(self._enter), self.hosts[0], f"exec {_quoted(command)}"],
            env={**os.environ, **self._mpi_variables(), **given},
            cwd=ROOT, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._running.append(process)
        return process

    def _mpi_variables(self) -> dict[str, str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {
            "PRTE_MCA_plm_ssh_agent": str(self._enter),
            # Ranks share cores; waiting ones must not take them from the others.
            "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMPI_MCA_osc": "^ucx",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }

    def run(
        self,
        program: Sequence[str],
        *,
        ranks_per_host: int = 1,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        timeout_s: float = 120,
    ) -> Finished:
        """Run ``program`` to its end; arguments are those of `start`.

        Raises:
            subprocess.TimeoutExpired: it took longer and was ended; with its output.
        """
        process = self.start(
            program, ranks_per_host=ranks_per_host, env=env, options=options
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            self._end(process)
            stdout, stderr = process.communicate()
            raise subprocess.TimeoutExpired(
                error.cmd, timeout_s, stdout, stderr
            ) from None
        finally:
            self._running.remove(process)
        return Finished(process.returncode, stdout, stderr)

    def _end(self, process: subprocess.Popen[str]) -> None:
        """End mpirun and whatever it left on the hosts."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for host in self.hosts:
            _kill_all(host)
        process.wait()


def address(index: int) -> str:
    """The address of a host, the same in all runs: each has its own network."""
    return f"10.77.0.{index + 1}"


def _sh(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _ip(namespace: str, *command: str) -> str:
    return _sh("ip", "-n", namespace, *command)


def _cap(namespace: str, device: str, mbps: float) -> None:
    """Let ``device`` send at this rate at most."""
    bucket = ("burst", str(_BURST_BYTES), "limit", str(_QUEUE_BYTES))
    root = ("qdisc", "add", "dev", device, "root")
    rate = ("tbf", "rate", f"{round(mbps * 1000)}kbit")
    _sh("tc", "-n", namespace, *root, *rate, *bucket)


def _names() -> list[str]:
    return [line.split()[0] for line in _sh("ip", "netns", "list").splitlines()]


def _pids(namespace: str) -> list[int]:
    return [int(word) for word in _sh("ip", "netns", "pids", namespace).split()]


def _kill_all(namespace: str) -> None:
    with contextlib.suppress(RuntimeError):
        for pid in _pids(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _remove(namespaces: Sequence[str]) -> None:
    known = set(_names())
    for name in known.intersection(namespaces):
        # A process would keep a namespace alive, nameless and with its interfaces.
        _kill_all(name)
        _sh("ip", "netns", "del", name)


def _quoted(command: Sequence[str]) -> str:
    """One word for a shell to take apart again, as ssh would send it."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
