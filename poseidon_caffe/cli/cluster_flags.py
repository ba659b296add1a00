"""The flags of ``poseidon train`` that only matter between several ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from poseidon_caffe.cli.flags import Arguments, Flag
from poseidon_caffe.errors import UsageError

if TYPE_CHECKING:
    from poseidon_caffe.comm.settings import ClusterSettings

__all__ = [
    "CLUSTER_FLAGS",
    "IDLE",
    "check_cluster_flags",
    "check_size",
    "check_solver",
    "cluster_settings",
    "given_cluster_flags",
]

_GROUP: Final = "Cluster (with mpirun)"
_POLICIES: Final = ("FixedOrder", "FIFO", "Random", "RelativeMagnitude")
# A stuck peer is first told of after this part of the time it is borne.
_WARNING_PART: Final = 3
_LONGEST_WARNING_S: Final = 10.0

CLUSTER_FLAGS: Final = (
    Flag(
        "servers",
        0,
        "dedicate the last K ranks to serving parameters; by default every worker "
        "serves its share, which needs the least traffic. Touch it when some hosts "
        "have a fast network but few cores to compute with",
        value="K",
        group=_GROUP,
    ),
    Flag(
        "staleness",
        0,
        "iterations a worker may be ahead of the slowest (SSP); 0 keeps all in step "
        "and reproducible. 1 to 3 help when hosts stall now and then",
        value="S",
        group=_GROUP,
    ),
    Flag(
        "svb",
        "auto",
        "sufficient factors in place of gradients for inner products: where they are "
        "smaller, for all, or never. Touch it to compare",
        choices=("auto", "on", "off"),
        switch=True,
        group=_GROUP,
    ),
    Flag(
        "nccl",
        "auto",
        "with a GPU for each rank, all on one machine: the GPUs average gradients "
        "themselves and each updates all parameters, without a server. On: else fail",
        choices=("auto", "on", "off"),
        switch=True,
        group=_GROUP,
    ),
    Flag(
        "cuda_aware_mpi",
        "auto",
        "sufficient factors go from GPU to GPU, not through the hosts' memory: if MPI "
        "says it can. On: it can, but does not say so (else it crashes)",
        choices=("auto", "on", "off"),
        switch=True,
        group=_GROUP,
    ),
    Flag(
        "overlap",
        "on",
        "send while backward still runs. Off is for comparison only",
        choices=("on", "off"),
        switch=True,
        group=_GROUP,
    ),
    Flag(
        "scaling",
        "weak",
        "weak: batch_size is that of each worker; strong: of all together, divided "
        "among them. Use strong to keep a tuned learning rate valid",
        choices=("weak", "strong"),
        group=_GROUP,
    ),
    Flag(
        "sync_batch_norm",
        False,
        "BatchNorm over the batches of all workers. Use it for small batches",
        group=_GROUP,
    ),
    Flag(
        "bandwidth_mbps",
        0.0,
        "cap on what one rank sends, Mbit/s (default: none). Use it to leave room on "
        "a shared network",
        value="MBPS",
        group=_GROUP,
    ),
    Flag(
        "update_sort_policy",
        "FixedOrder",
        "what is sent first while the network is busy; with --staleness only",
        choices=_POLICIES,
        group=_GROUP,
    ),
    Flag(
        "row_kib",
        0,
        "largest message in KiB (default: from the link as measured at start). Touch "
        "it when --report_traffic shows slow links",
        value="KIB",
        group=_GROUP,
    ),
    Flag(
        "comm_timeout_s",
        120.0,
        "end the job when a rank is silent or stuck for so long. Raise it for hosts "
        "that swap or for slow disks",
        value="SECONDS",
        group=_GROUP,
    ),
    Flag(
        "check_replicas",
        1000,
        "compare what workers rebuild from factors every N iterations; 0: never",
        value="N",
        group=_GROUP,
    ),
    Flag(
        "report_traffic",
        False,
        "log the bytes sent and received by layer",
        group=_GROUP,
    ),
    Flag("force_ssp", False, "take the path of --staleness at 0 too", hidden=True),
    Flag("table_staleness", 0, "the original's --staleness", alias="staleness",
         hidden=True),
    Flag(
        "num_rows_per_table",
        0,
        "",
        hidden=True,
        warning="has no effect: rows are cut by bytes, see --row_kib",
    ),
    Flag("hostfile", "", "the original's list of hosts", hidden=True),
)  # fmt: skip
"""In the order of ``--help``; the original Poseidon's own names come last."""

IDLE: Final = frozenset({"num_rows_per_table", "hostfile"})
"""Those of them that never change anything."""


def given_cluster_flags(args: Arguments) -> list[str]:
    """Names of the flags given that one process alone has no use for."""
    return [
        flag.name
        for flag in CLUSTER_FLAGS
        if flag.name in args.given and flag.name not in IDLE
    ]


def check_cluster_flags(args: Arguments) -> None:
    """Raise UsageError for values that are wrong whatever the net and the ranks."""
    for name in ("servers", "staleness", "row_kib", "check_replicas"):
        if args.integer(name) < 0:
            raise UsageError(
                f"--{name}: expected 0 or more, received {args.integer(name)}"
            )
    bandwidth = args.number("bandwidth_mbps")
    if not 0 <= bandwidth < math.inf:
        raise UsageError(
            f"--bandwidth_mbps: expected Mbit/s, 0 for no cap, received {bandwidth:g}"
        )
    timeout_s = args.number("comm_timeout_s")
    if not 0 < timeout_s < math.inf:
        raise UsageError(
            f"--comm_timeout_s: expected seconds above 0, received {timeout_s:g}"
        )
    if args.integer("staleness") > 0 and args.boolean("sync_batch_norm"):
        raise UsageError(
            f"--sync_batch_norm with --staleness {args.integer('staleness')}: it makes "
            "every layer wait for all workers, so none can be ahead; leave one out"
        )
    if args.integer("staleness") > 0 and args.text("svb") == "on":
        raise UsageError(
            f"--svb on with --staleness {args.integer('staleness')}: factors are "
            "exact only when all workers are in step; leave --svb at auto, which then "
            "sends rows, or --staleness at 0"
        )


def check_size(servers: int, ranks: int) -> None:
    """Raise UsageError unless ``servers`` of ``ranks`` leave a worker."""
    if servers and servers >= ranks:
        raise UsageError(
            f"--servers {servers} of {ranks} ranks leaves nobody to train: give "
            f"--servers at most {ranks - 1}, or mpirun -n at least {servers + 1}"
        )


def check_solver(args: Arguments, param: Any) -> None:
    """Raise UsageError for flags that the solver's settings exclude.

    Args:
        args: the command's.
        param: the SolverParameter.
    """
    staleness = args.integer("staleness")
    if staleness and param.clip_gradients >= 0:
        raise UsageError(
            f"--staleness {staleness} with clip_gradients: {param.clip_gradients:g}: "
            "the norm of all gradients is known only when all workers are in step; "
            "leave one of the two out"
        )


def cluster_settings(args: Arguments) -> ClusterSettings:
    """The flags as the cluster takes them."""
    from poseidon_caffe.comm.settings import ClusterSettings

    timeout_s = args.number("comm_timeout_s")
    return ClusterSettings(
        servers=args.integer("servers"),
        staleness=args.integer("staleness"),
        svb=args.text("svb"),
        overlap=args.text("overlap") == "on",
        bandwidth_mbps=args.number("bandwidth_mbps"),
        update_sort_policy=args.text("update_sort_policy"),
        comm_timeout_s=timeout_s,
        stall_warning_s=min(timeout_s / _WARNING_PART, _LONGEST_WARNING_S),
        row_bytes=args.integer("row_kib") * 1024,
        force_ssp=args.boolean("force_ssp"),
        check_replicas_iters=args.integer("check_replicas"),
        report_traffic=args.boolean("report_traffic"),
    )
