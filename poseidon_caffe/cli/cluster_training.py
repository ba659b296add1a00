"""The work of ``poseidon train`` on one of several ranks."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final, TypeAlias

import numpy as np

from poseidon_caffe import __version__
from poseidon_caffe.cli.cluster_flags import CLUSTER_FLAGS, IDLE
from poseidon_caffe.cli.cluster_model import model_of
from poseidon_caffe.cli.gpu_flags import NUMERIC_FLAGS
from poseidon_caffe.cli.joint import Joint
from poseidon_caffe.cli.reducing import (
    Seat,
    attach_reducing,
    meet,
    open_reducer,
    wants_device_factors,
    wants_nccl,
)
from poseidon_caffe.cli.signals import SignalActions
from poseidon_caffe.cli.threads import is_bound
from poseidon_caffe.cli.training import Training
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.cluster import Attachment, Cluster
from poseidon_caffe.comm.nccl_sync import ReducingAttachment
from poseidon_caffe.comm.policy import GPU, PROCESSOR, describe
from poseidon_caffe.comm.pool import WorkersPool
from poseidon_caffe.comm.roster import Fingerprint, exchange
from poseidon_caffe.net.net import Net
from poseidon_caffe.report import tags
from poseidon_caffe.schema.printer import to_prototxt
from poseidon_caffe.solver.batches import effective_batch, record_counts
from poseidon_caffe.solver.events import Event, IterationFinished
from poseidon_caffe.solver.handover import (
    Handover,
    export_start,
    import_start,
    start_arrays,
)
from poseidon_caffe.solver.snapshot import probe_prefix
from poseidon_caffe.solver.solver import Solver
from poseidon_caffe.types import Shard

__all__ = ["ClusterTraining"]

AnyAttachment: TypeAlias = Attachment | ReducingAttachment

# Tags of the board of all ranks before the start; topics below 4 are taken by
# `Joint` and the roster.
_FIRST_TAG: Final = 940
_TOPIC_SEED: Final = 4
_TOPIC_START: Final = 5
_SEED_BITS: Final = 63
_MEGABYTE: Final = 1e6
# Rank 0 alone needs them, or each has its own.
_OWN_FIELDS: Final = ("snapshot_prefix", "weights", "device_id")


class ClusterTraining(Training):
    """One rank's part of a training run; see `Training`."""

    def agreed_flags(self) -> dict[str, str]:
        """Flags that all ranks must have alike, by the name to show."""
        return {
            f"--{flag.name}": str(self._args.values[flag.name])
            for flag in (*CLUSTER_FLAGS, *NUMERIC_FLAGS)
            if not flag.alias and flag.name not in IDLE
        }

    def run_in(self, cluster: Cluster, param: Any) -> None:
        """Train, or serve, to the end or until stopped.

        Args:
            cluster: of all ranks, which agree on the flags.
            param: what `read` gave.

        Raises:
            JointFailure: something was wrong before the first iteration.
            PoseidonError: this rank failed later.
        """
        courier, hosts = cluster.courier, cluster.transport.hosts
        board = Board(courier, range(courier.size), _FIRST_TAG)
        joint = Joint(board, courier.rank, hosts)
        seed = int(board.broadcast(_TOPIC_SEED, _draw_seed()))
        solver = joint.together(lambda: self._build(cluster, param, seed))
        try:
            prints, texts = _fingerprint(solver, cluster)
            joint.alike(lambda: exchange(board, prints, texts, hosts))
            joint.together(lambda: self._load(solver, courier.rank))
            _hand_over(solver, cluster, board)
            is_pooled = self._args.boolean("sync_batch_norm")
            attachment = self._attach(solver, cluster, board, joint)
            if is_pooled:
                self._pool_batch_norm(solver, cluster)
            self._describe(solver, cluster, attachment)
            self._work(solver, cluster, attachment)
        finally:
            solver.close()
        self._log.info(tags.DONE, "Optimization Done.")

    def _attach(
        self, solver: Solver, cluster: Cluster, board: Board, joint: Joint
    ) -> AnyAttachment:
        """Join the others: by NCCL where that is possible, else by what travels."""
        is_pooled = self._args.boolean("sync_batch_norm")
        host = cluster.transport.hosts[cluster.courier.rank]
        seat = joint.together(lambda: Seat.of(host, self._gpu))
        seats = meet(board, seat)
        if joint.together(lambda: wants_nccl(self._args, seats)):
            self._say("The GPUs combine gradients by NCCL; every rank updates itself")
            reducer = open_reducer(cluster, board, joint, solver, seat)
            return attach_reducing(solver, cluster, reducer, is_pooled=is_pooled)
        missing = next((each.problem for each in seats if each.problem), None)
        if missing is not None and self._args.text("nccl") == "auto":
            self._say(f"The GPUs combine gradients through the hosts: {missing}")
        return joint.together(
            lambda: cluster.attach(
                model_of(
                    solver,
                    cluster.courier,
                    is_pooled=is_pooled,
                    device_factors=wants_device_factors(self._args, self._gpu),
                    speed=GPU if all(each.gpu for each in seats) else PROCESSOR,
                )
            )
        )

    def _build(self, cluster: Cluster, param: Any, seed: int) -> Solver:
        """The solver of this rank's shard; a server reads no records of its own."""
        workers = len(cluster.roles.workers)
        shard = Shard(min(cluster.courier.rank, workers - 1), workers)
        is_strong = self._args.text("scaling") == "strong"
        life = _SignOfLife(cluster)
        return self.build(
            param, shard, seed, workers if is_strong else 1, events=(life,)
        )

    def _load(self, solver: Solver, rank: int) -> None:
        """Rank 0 reads weights and snapshot for all, and sees that it can write."""
        if rank:
            return
        if solver.param.snapshot_after_train:
            probe_prefix(solver.prefix)
        self.load_weights(solver)
        found = self.snapshot(solver)
        if found is not None:
            solver.restore(found)

    def _pool_batch_norm(self, solver: Solver, cluster: Cluster) -> None:
        """Let BatchNorm layers normalise over the batches of all workers."""
        pool = WorkersPool(cluster.workers_board)
        if not solver.net.set_pool(pool):
            self._say("--sync_batch_norm: no layer of this net takes moments")

    def _describe(
        self, solver: Solver, cluster: Cluster, attachment: AnyAttachment
    ) -> None:
        """What the person should know of this run."""
        workers, passes = len(cluster.roles.workers), int(solver.param.iter_size)
        batch = effective_batch(solver.net, 1)
        self._say(
            f"Effective batch: {workers} workers x {batch} x iter_size {passes} = "
            f"{workers * batch * passes}"
        )
        for line in describe(attachment.plan.choices):
            self._say(line)
        if is_bound():
            self._say(
                f"mpirun bound this rank to a part of the cores, on which "
                f"{self._threads} threads compute; to use all: mpirun --bind-to none"
            )

    def _say(self, text: str) -> None:
        self._log.info(tags.POSEIDON, text)

    def _work(
        self, solver: Solver, cluster: Cluster, attachment: AnyAttachment
    ) -> None:
        """Train, or serve until all others have."""
        if attachment.sync is None or attachment.observer is None:
            # What mpirun hands on to all ranks is for the workers to answer.
            with SignalActions(solver, "none", "none", is_rank=True):
                cluster.serve()
            return
        solver.sync, solver.net.observer = attachment.sync, attachment.observer
        cluster.watchman.name_layers(solver.net.layer_names)
        first = solver.iteration
        for net in solver.test_nets:
            # A long test is no standstill.
            net.before_forward_hooks.append(
                lambda layer: cluster.watchman.beat(solver.iteration, layer)
            )
        with self.watched(solver, is_rank=True):
            solver.solve()
        attachment.sync.finish()
        if self._args.boolean("report_traffic"):
            self._report_traffic(attachment, solver.iteration - first)

    def _report_traffic(self, attachment: AnyAttachment, iterations: int) -> None:
        """Rank 0 tells the mean over workers and every worker's sum."""
        assert attachment.sync is not None
        traffic = attachment.traffic
        found = attachment.sync.gather(traffic.counts())
        if found is None:
            return
        self._say(f"Traffic, mean of {len(found)} workers, MB per iteration:")
        for line in traffic.mean_of(found).report(iterations):
            self._say(f"  {line}")
        for rank, counts in enumerate(found):
            flow, scale = traffic.mean_of([counts]).sum(), _MEGABYTE * iterations
            sent = flow.sent_bytes / max(scale, 1.0)
            received = flow.received_bytes / max(scale, 1.0)
            self._say(f"Rank {rank} sent {sent:.3f} MB, received {received:.3f} MB")


class _SignOfLife:
    """Hears of all that a solver does, and lets the others know that it goes on."""

    def __init__(self, cluster: Cluster) -> None:
        self._beat, self._iteration = cluster.watchman.beat, 0

    def on_event(self, event: Event) -> None:
        """Something was built, read, tested, or an iteration is over."""
        if isinstance(event, IterationFinished):
            self._iteration = event.iteration
        self._beat(self._iteration)


def _draw_seed() -> bytes:
    return str(secrets.randbits(_SEED_BITS)).encode()


def _fingerprint(
    solver: Solver, cluster: Cluster
) -> tuple[Fingerprint, dict[str, str]]:
    """What this rank is about to do, and the prototxts in it by name."""
    param = type(solver.param)()
    param.CopyFrom(solver.param)
    for field in _OWN_FIELDS:
        param.ClearField(field)
    texts = {"solver": to_prototxt(param), "train net": to_prototxt(solver.net.param)}
    counts = _counts(solver.net, "the train net")
    for i, net in enumerate(solver.test_nets):
        texts[f"test net #{i}"] = to_prototxt(net.param)
        counts |= _counts(net, f"test net #{i}")
    settings = {
        "the backend": solver.ops.name,
        "the floating type": np.dtype(solver.options.dtype).name,
    }
    own = Fingerprint.of(
        __version__,
        settings,
        texts,
        counts=counts,
        is_server=not cluster.roles.works,
    )
    return own, texts


def _counts(net: Net, name: str) -> dict[str, int]:
    """Records of the sources that all workers share, by layer."""
    counts = record_counts(net)
    return {f"{layer} of {name}": count for layer, count in counts.items()}


def _hand_over(solver: Solver, cluster: Cluster, board: Board) -> None:
    """All ranks begin as rank 0 does."""
    if cluster.courier.rank == 0:
        start = export_start(solver)
        board.broadcast(_TOPIC_START, json.dumps(start.meta).encode())
        cluster.broadcast(start.arrays)
        return
    meta = json.loads(board.broadcast(_TOPIC_START, None))
    arrays = start_arrays(solver, with_history=meta["has_history"])
    cluster.broadcast(arrays)
    import_start(solver, Handover(meta, arrays))
