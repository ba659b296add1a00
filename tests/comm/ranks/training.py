"""Runs the trials of a folder, one after the other, as `poseidon train` would.

training.py FOLDER RECORDS: each trial takes the first ranks of the job, as many as it
needs; rank 0 writes NAME.npz and NAME.json for `trials.load_result`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np

from poseidon_caffe.cli.cluster_model import model_of
from poseidon_caffe.cli.cluster_training import _hand_over
from poseidon_caffe.cli.reducing import attach_reducing
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.board_reducer import BoardReducer
from poseidon_caffe.comm.cluster import Attachment, Cluster
from poseidon_caffe.comm.link import link_class
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.pool import WorkersPool
from poseidon_caffe.solver.solver import Solver
from poseidon_caffe.types import Shard
from tests.comm.trials import Recorder, Trial, arrays_of, load_trials, make_solver
from tests.net.support import replays

FOLDER, RECORDS = Path(sys.argv[1]), Path(sys.argv[2])
TIMEOUT_S = 600
TOPIC = 30
START_TAG = 940
GIGABIT_BYTES_S = 1.25e8
WAKE_TAG = 50


class Part:
    """The first ranks of a transport, as if there were no others."""

    def __init__(self, transport, size):
        self.whole = transport
        self.rank, self.size = transport.rank, size
        self.hosts, self.pids = transport.hosts[:size], transport.pids[:size]
        self.send, self.receive = transport.send, transport.receive
        self.finished, self.abort = transport.finished, transport.abort

    def close(self):
        if self.rank == 0:
            for peer in range(self.size, self.whole.size):
                self.whole.send(peer, WAKE_TAG, np.zeros(1, np.uint8))
        self.whole.close()


def sleep_through(transport) -> None:
    """What ranks do that a trial does not need: hardly anything, until it is over."""
    request = transport.receive(0, WAKE_TAG, np.zeros(1, np.uint8))
    while request not in transport.finished():
        time.sleep(0.01)
    transport.close()


def run(trial: Trial, transport) -> None:
    settings = trial.cluster_settings
    cluster = Cluster(Part(transport, trial.ranks), settings, say)
    cluster.sizes = replace(cluster.sizes, merge_bytes=trial.merge_bytes)
    # In memory hardly anything is worth being sent as factors.
    cluster.link = link_class(GIGABIT_BYTES_S)
    shard = Shard(min(transport.rank, trial.workers - 1), trial.workers)
    recorder = Recorder()
    solver = make_solver(trial, RECORDS, shard, recorder)
    _hand_over(solver, cluster, Board(cluster.courier, range(trial.ranks), START_TAG))
    attached = attach(trial, cluster, solver)
    if attached.sync is None:
        cluster.serve()
    else:
        train(trial, cluster, solver, attached)
        write(trial, cluster, solver, attached, recorder)
    solver.close()
    cluster.close()


def attach(trial: Trial, cluster: Cluster, solver: Solver):
    if not trial.nccl:
        return cluster.attach(
            model_of(solver, cluster.courier, device_factors=trial.device_factors)
        )
    reducer = BoardReducer(cluster.workers_board, solver.ops.transfers())
    return attach_reducing(solver, cluster, reducer, is_pooled=trial.pooled)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def train(trial: Trial, cluster: Cluster, solver: Solver, attached: Attachment) -> None:
    solver.sync, solver.net.observer = attached.sync, attached.observer
    if trial.pooled:
        pool = WorkersPool(cluster.workers_board)
        assert solver.net.set_pool(pool)
    solver.step(trial.iterations)
    solver.wait()
    attached.sync.collect_history()
    attached.sync.finish()


def write(trial, cluster, solver, attached, recorder) -> None:
    """Everything that was made, and every worker's digest of its parameters."""
    arrays = arrays_of(solver, recorder)
    values = b"".join(a.tobytes() for n, a in arrays.items() if n.startswith("value"))
    own = hashlib.sha256(values).hexdigest()
    scale = solver.net.loss_scale
    told = json.dumps([own, None if scale is None else scale.state()])
    found = cluster.workers_board.gather(TOPIC, told.encode())
    if found is None:
        return
    plan = attached.plan
    digests, scales = zip(*map(json.loads, found), strict=True)
    about = {
        "digests": digests,
        "scales": scales,
        "plan": {
            "rows": len(plan.rows),
            "owners": len({row.owner for row in plan.rows}),
            "pieces": max((len(row.pieces) for row in plan.rows), default=0),
            "factors": [pair.weights.name for pair in plan.pairs],
            "replays": replays(solver.net) if solver.net.ops.captures else [],
        },
    }
    np.savez(FOLDER / f"{trial.name}.npz", **arrays)
    (FOLDER / f"{trial.name}.json").write_text(json.dumps(about))


def main() -> None:
    sys.setswitchinterval(0.0005)
    # Initialises MPI and ends it; each trial has a communicator of its own.
    keeper = open_mpi(close_timeout_s=TIMEOUT_S)
    for trial in load_trials(FOLDER):
        transport = open_mpi(close_timeout_s=TIMEOUT_S)
        try:
            if transport.rank < trial.ranks:
                run(trial, transport)
            else:
                sleep_through(transport)
        except BaseException:  # noqa: BLE001
            say(f"rank {transport.rank}, {trial.name}:\n{traceback.format_exc()}")
            transport.abort(1)
    keeper.close()


if __name__ == "__main__":
    main()
