"""How a cluster is run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SORT_POLICIES", "SVB_MODES", "ClusterSettings"]

SVB_MODES = ("auto", "on", "off")
SORT_POLICIES = ("FixedOrder", "FIFO", "Random", "RelativeMagnitude")


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of ``poseidon train`` under mpirun; the same on every rank.

    Attributes:
        servers: ranks that only serve, the last ones; 0: every worker serves too.
        staleness: iterations that a worker may be ahead of the slowest; 0 is BSP.
        svb: sufficient factors for inner products: where smaller, always, never.
        overlap: send while backward runs and wait before each layer's forward.
        bandwidth_mbps: cap on what one rank sends, Mbit/s; 0: none.
        update_sort_policy: order of waiting sends when ``staleness`` > 0.
        comm_timeout_s: how long a silent or stuck peer is borne.
        stall_warning_s: how long before that is first told.
        row_bytes: largest message; 0: chosen from the measured link.
        force_ssp: take the bounded-staleness path though ``staleness`` is 0.
        check_replicas_iters: compare the replicas every so often; 0: never.
        report_traffic: count bytes by layer and log them.
    """

    servers: int = 0
    staleness: int = 0
    svb: str = "auto"
    overlap: bool = True
    bandwidth_mbps: float = 0.0
    update_sort_policy: str = "FixedOrder"
    comm_timeout_s: float = 120.0
    stall_warning_s: float = 10.0
    row_bytes: int = 0
    force_ssp: bool = False
    check_replicas_iters: int = 1000
    report_traffic: bool = False
