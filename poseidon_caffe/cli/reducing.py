"""What the GPUs of a job do among themselves: gradients by NCCL, factors by MPI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol

from poseidon_caffe.backend.gpu.aware_mpi import mpi_takes_device_memory
from poseidon_caffe.backend.gpu.nccl import (
    NcclId,
    NcclReducer,
    gpu_identity,
    nccl_problem,
    new_nccl_id,
)
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Reducer
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.joint import Joint
from poseidon_caffe.comm.board_reducer import BoardReducer
from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.nccl_sync import ReducedModel, ReducingAttachment
from poseidon_caffe.errors import UsageError
from poseidon_caffe.solver.solver import Solver

__all__ = [
    "Seat",
    "attach_reducing",
    "meet",
    "obstacle",
    "open_reducer",
    "wants_device_factors",
    "wants_nccl",
]

_TOPIC_SEATS: Final = 6
_TOPIC_ID: Final = 7


class Talk(Protocol):
    """What is used of a board among all ranks."""

    def all_gather(self, topic: int, payload: bytes) -> list[bytes]:
        """Everybody's payload in the order of ranks, everywhere."""

    def broadcast(self, topic: int, payload: bytes | None) -> bytes:
        """Rank 0's payload, everywhere."""


@dataclass(frozen=True)
class Seat:
    """Where one rank computes.

    Attributes:
        host: its machine.
        gpu: what tells its GPU from the machine's others; empty: none.
        problem: why NCCL cannot be used there; empty if it can.
        is_emulated: the processor plays the GPU.
    """

    host: str
    gpu: str = ""
    problem: str = ""
    is_emulated: bool = False

    @classmethod
    def of(cls, host: str, gpu: GpuSettings | None) -> Seat:
        """Of a rank on ``host``."""
        if gpu is None:
            return cls(host)
        if gpu.emulated:
            return cls(host, f"emulated {gpu.device}", "", is_emulated=True)
        return cls(host, gpu_identity(gpu.device), nccl_problem() or "")


def obstacle(seats: Sequence[Seat]) -> str | None:
    """Why these ranks cannot use NCCL; None if they can."""
    if not all(seat.gpu for seat in seats):
        return "not every rank computes on a GPU"
    if len({seat.host for seat in seats}) > 1:
        return "the ranks are on several machines"
    if len({seat.gpu for seat in seats}) < len(seats):
        return "some ranks share a GPU"
    return next((seat.problem for seat in seats if seat.problem), None)


def excluded_by(args: Arguments) -> str | None:
    """The flag that only the parameter server obeys, if one is given."""
    if args.integer("servers"):
        return f"--servers {args.integer('servers')}"
    if args.integer("staleness"):
        return f"--staleness {args.integer('staleness')}"
    if args.text("svb") == "on":
        return "--svb on"
    if args.text("overlap") == "off":
        return "--overlap off"
    return "--force_ssp" if args.boolean("force_ssp") else None


def wants_nccl(args: Arguments, seats: Sequence[Seat]) -> bool:
    """Whether these ranks use NCCL; the same on all of them.

    Raises:
        UsageError: ``--nccl on`` where it cannot be.
    """
    choice = args.text("nccl")
    if choice == "off" or len(seats) == 1:
        return False
    flag = excluded_by(args)
    reason = obstacle(seats) if flag is None else f"{flag} is the parameter server's"
    if choice == "auto":
        # Emulated GPUs have no NCCL; what stands in for it is only for tests.
        return reason is None and not any(seat.is_emulated for seat in seats)
    if reason is not None:
        raise UsageError(f"--nccl on: {reason}; leave --nccl at auto")
    return True


def wants_device_factors(args: Arguments, gpu: GpuSettings | None) -> bool:
    """Whether this rank's factors go from the GPU's memory straight to MPI."""
    choice = args.text("cuda_aware_mpi")
    if gpu is None or choice == "off":
        return False
    return choice == "on" or (not gpu.emulated and mpi_takes_device_memory())


def meet(board: Talk, seat: Seat) -> list[Seat]:
    """Every rank's seat, everywhere."""
    found = board.all_gather(_TOPIC_SEATS, json.dumps(asdict(seat)).encode())
    return [Seat(**json.loads(each)) for each in found]


def open_reducer(
    cluster: Cluster, board: Talk, joint: Joint, solver: Solver, seat: Seat
) -> Reducer:
    """This rank's part of the reductions; all ranks call it together.

    Raises:
        JointFailure: NCCL gives no id.
        BackendError: NCCL cannot connect the GPUs; this rank ends the job.
    """
    if seat.is_emulated:
        return BoardReducer(cluster.workers_board, solver.ops.transfers())
    rank, size = cluster.courier.rank, cluster.courier.size
    own = joint.together(
        lambda: b"" if rank else json.dumps(asdict(new_nccl_id())).encode()
    )
    shared = NcclId(**json.loads(board.broadcast(_TOPIC_ID, own)))
    # Not together: ranks that wait for this one in NCCL could not hear of its failure.
    return NcclReducer(solver.ops, size, rank, shared)


def attach_reducing(
    solver: Solver, cluster: Cluster, reducer: Reducer, *, is_pooled: bool
) -> ReducingAttachment:
    """Train ``solver``, whose start state is in place, by reductions.

    Args:
        solver: the same on every rank.
        cluster: without servers.
        reducer: among all ranks.
        is_pooled: statistics come out equal by themselves.
    """
    net = solver.net
    # The norm that clips may count gradients of what never moves.
    clips = solver.param.clip_gradients >= 0
    still = frozenset(
        slot.index
        for slot in net.slots
        if (
            is_pooled
            if slot.statistics
            else solver.updater.is_frozen(slot.index) and not clips
        )
    )
    model = ReducedModel(net.slots, net.learnable, solver.iteration, still)
    return ReducingAttachment(cluster, model, reducer)
