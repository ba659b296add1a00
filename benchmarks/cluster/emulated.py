"""Rank program: iterations of an emulated net in a cluster.

``mpirun -n 4 python -m benchmarks.cluster.emulated --net vgg19-22k`` prints rank 0's
result as one line of JSON.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

from benchmarks.cluster.emulated_net import EmulatedNet
from benchmarks.cluster.rank import Link, say
from benchmarks.cluster.wiring import join
from benchmarks.cluster.workload import WORKLOADS, Workload, workload
from poseidon_caffe.comm.settings import ClusterSettings

# Of the board, below those that the cluster itself uses.
_TOPIC = 30


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=sorted(WORKLOADS), required=True)
    parser.add_argument("--slow", type=float, default=1.0, help="compute time factor")
    parser.add_argument("--overlap", choices=["on", "off"], default="on")
    parser.add_argument("--svb", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--priority", choices=["on", "off"], default="on")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=10)
    return parser.parse_args()


def main() -> None:
    """Iterate, then tell how long it took and what it sent."""
    args = _arguments()
    work = workload(args.net).slowed(args.slow)
    net = EmulatedNet(work)
    settings = ClusterSettings(
        svb=args.svb, overlap=args.overlap == "on", check_replicas_iters=0
    )
    joined = join(
        net.slots, net.blobs, settings,
        rebuild=net.rebuild, factor_rows=net.factor_rows,
        priority=args.priority == "on",
    )  # fmt: skip
    for _ in range(args.warmup):
        net.iterate(joined.observer)
    link, payload_bytes = Link(), joined.sent_bytes
    busy_s = net.device.busy_s
    times_s = []
    # In the steady state an iteration takes as long as from one's end to the next's.
    last_s = time.perf_counter()
    for _ in range(args.iterations):
        net.iterate(joined.observer)
        now_s = time.perf_counter()
        times_s.append(now_s - last_s)
        last_s = now_s
    own = {
        "iteration_s": median(times_s),
        "mean_s": sum(times_s) / len(times_s),
        "busy_s": (net.device.busy_s - busy_s) / args.iterations,
        "link_bytes": link.sent_bytes() / args.iterations,
        "payload_bytes": (joined.sent_bytes - payload_bytes) / args.iterations,
    }
    found = joined.gather(_TOPIC, own)
    if found is not None:
        say(_result(work, found, times_s, joined.factors))
    joined.close()


def _result(
    work: Workload,
    found: list[dict[str, float]],
    times_s: list[float],
    factors: list[str],
) -> dict[str, Any]:
    """Of all ranks the slowest, and of all links the busiest."""
    iteration_s = max(each["iteration_s"] for each in found)
    return {
        "ranks": len(found),
        "batch": work.batch,
        "compute_s": work.compute_s,
        # With factors rebuilt by every worker there is more to compute.
        "busy_s": max(each["busy_s"] for each in found),
        "iteration_s": iteration_s,
        "mean_s": max(each["mean_s"] for each in found),
        "times_s": times_s,
        "images_per_s": len(found) * work.batch / iteration_s,
        "link_bytes": max(each["link_bytes"] for each in found),
        "payload_bytes": max(each["payload_bytes"] for each in found),
        "factors": factors,
    }


if __name__ == "__main__":
    main()
