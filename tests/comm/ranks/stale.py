"""Stale reads between real processes.

stale.py bound SERVERS: with stalls here and there no layer reads values older than the
bound allows, for several bounds.
stale.py speed: iterations per second while stalls of two iterations' length move from
worker to worker, for two bounds, twice over; computing is emulated by sleeping.
"""

from __future__ import annotations

import random
import sys
import time
import traceback

from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.counting import Log, counting, watch

ITERATION_S = 0.04
STALL_EVERY = 2  # iterations; always another worker's
TOPIC = 30


def settings_of(staleness: int, servers: int) -> ClusterSettings:
    return ClusterSettings(
        staleness=staleness,
        servers=servers,
        svb="off",
        row_bytes=2048,
        force_ssp=not staleness,
    )


def bound(transport, staleness: int, servers: int) -> None:
    cluster = Cluster(transport, settings_of(staleness, servers), print)
    tiny = counting()
    attached = cluster.attach(tiny.model())
    if attached.sync is None:
        cluster.serve()
        cluster.close()
        return
    draw = random.Random(transport.rank)

    def pause(iteration: int, layer: int, moment: str) -> None:
        if draw.random() < 0.1:
            time.sleep(draw.uniform(0, 0.02))

    log = Log(transport.size)
    watch(tiny, attached, transport.rank, 20, log, pause)
    log.check(staleness)
    attached.sync.finish()
    cluster.close()
    print("bound holds", flush=True)


def speed(transport, staleness: int, iterations: int = 32) -> None:
    cluster = Cluster(transport, settings_of(staleness, 0), print)
    tiny = counting()
    attached = cluster.attach(tiny.model())
    steps = 2 * tiny.layers

    def pause(iteration: int, layer: int, moment: str) -> None:
        if moment == "forward":
            return
        turn, within = divmod(iteration, STALL_EVERY)
        stalls = layer == 0 and moment == "entered" and not within
        time.sleep(ITERATION_S / steps)
        if stalls and turn % transport.size == transport.rank:
            time.sleep(2 * ITERATION_S)

    cluster.workers_board.barrier(TOPIC)
    start = time.perf_counter()
    watch(tiny, attached, transport.rank, iterations, Log(transport.size), pause)
    cluster.workers_board.barrier(TOPIC)
    if transport.rank == 0:
        rate = iterations / (time.perf_counter() - start)
        print(staleness, f"{rate:.3f}", flush=True)
    attached.sync.finish()
    cluster.close()


def main() -> None:
    sys.setswitchinterval(0.0005)
    keeper = open_mpi()
    # What else runs on the machine must not hit one of the two alone.
    for staleness in (0, 1, 2, 4) if sys.argv[1] == "bound" else (0, 3, 0, 3):
        transport = open_mpi()
        try:
            if sys.argv[1] == "bound":
                bound(transport, staleness, int(sys.argv[2]))
            else:
                speed(transport, staleness)
        except BaseException:  # noqa: BLE001
            print(f"rank {transport.rank}:\n{traceback.format_exc()}", flush=True)
            transport.abort(1)
    keeper.close()


if __name__ == "__main__":
    main()
