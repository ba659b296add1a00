"""The one place where the benchmarks attach a cluster to something that is no net."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cluster.emulated_net import IdleUpdater, Memory
from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.model import Model, Rebuild
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.plan import Plan
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.sync import ClusterSync
from poseidon_caffe.net.hooks import NetObserver, ParamSlot
from poseidon_caffe.types import Array, JsonObject

__all__ = ["Joined", "join"]

# As `poseidon train` does: the courier must not wait long for Python code.
_SWITCH_S = 0.0005


@dataclass(frozen=True)
class Joined:
    """A cluster with something attached.

    Attributes:
        cluster: this rank's part.
        observer: to be told of progress.
        sync: to wait for values with.
        plan: how the slots travel.
    """

    cluster: Cluster
    observer: NetObserver
    sync: ClusterSync
    plan: Plan

    @property
    def factors(self) -> list[str]:
        """Names of the slots that travel as factors."""
        return [slot.name for pair in self.plan.pairs for slot in pair.slots]

    @property
    def sent_bytes(self) -> int:
        """Payload that this rank has sent so far."""
        return self.cluster.courier.sent_bytes

    def close(self) -> None:
        """Wait for everything under way, then leave together with the others."""
        self.sync.finish()
        self.cluster.close()

    def gather(self, topic: int, item: JsonObject) -> list[JsonObject] | None:
        """Every rank's item on rank 0, None elsewhere; also a barrier for rank 0."""
        found = self.cluster.board.gather(topic, json.dumps(item).encode())
        return None if found is None else [json.loads(each) for each in found]


def join(
    slots: Sequence[ParamSlot],
    blobs: Sequence[Memory],
    settings: ClusterSettings,
    *,
    rebuild: Rebuild | None = None,
    factor_rows: dict[int, int] | None = None,
    priority: bool = True,
) -> Joined:
    """Start a cluster over MPI and attach parameters to it.

    Args:
        slots: alike on all ranks.
        blobs: their memory.
        settings: of the cluster.
        rebuild: called in place of the product that makes a gradient of factors.
        factor_rows: rows of factors by slot index.
        priority: False: messages leave in the order in which they were given.
    """
    sys.setswitchinterval(_SWITCH_S)
    updater = IdleUpdater()
    model = Model(
        slots=slots,
        blobs=blobs,
        updater=updater,
        local_updater=updater,
        rebuild=rebuild or _no_factors,
        factor_rows=factor_rows or {},
    )
    cluster = Cluster(open_mpi(), settings, _tell)
    if not priority:
        # Before anything is attached that might keep the method.
        cluster.courier.send = _unhurried(  # type: ignore[method-assign]
            cluster.courier.send
        )
    attached = cluster.attach(model)
    if attached.observer is None or attached.sync is None:
        raise SystemExit("the benchmarks have no dedicated servers")
    return Joined(cluster, attached.observer, attached.sync, attached.plan)


def _no_factors(*_: Array | None) -> None:
    raise AssertionError("nothing here travels as factors")


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _unhurried(send: Callable[..., None]) -> Callable[..., None]:
    """``send`` deaf to priorities: one for all leaves the order of the calls."""

    def plain(*args: Any, **kwargs: Any) -> None:
        send(*args, **{**kwargs, "priority": 0})

    return plain
