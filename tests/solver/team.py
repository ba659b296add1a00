"""A cluster in one process: N solvers in threads, joined by a barrier.

It keeps to `GradientSync` and `NetObserver`: each slot has one owner, which alone
keeps its history and hands the new values to the others.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.solver.handover import Handover, export_start, import_start
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import RowPiece, Shard
from tests.solver.support import Recorder, make_param


class Hub:
    """Where N threads meet."""

    def __init__(self, world):
        self.world = world
        self._barrier = threading.Barrier(world, timeout=60)
        self._values = [None] * world

    def exchange(self, rank, value):
        """Everyone's values in rank order."""
        self._values[rank] = value
        self._barrier.wait()
        found = list(self._values)
        self._barrier.wait()
        return found

    def run(self, work):
        """Results of ``work(rank)`` on all ranks; the first that failed raises."""

        def guarded(rank):
            try:
                return work(rank)
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.world) as pool:
            futures = [pool.submit(guarded, rank) for rank in range(self.world)]
        errors = [f.exception() for f in futures if f.exception()]
        for error in errors:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error
        assert not errors
        return [future.result() for future in futures]


class TeamSync:
    """`GradientSync` of one rank.

    Args:
        lag: iterations before a request is answered.
    """

    def __init__(self, hub, rank, lag=0):
        self.hub, self.rank = hub, rank
        self.solver = None
        self._answers = [0] * lag

    def attach(self, solver):
        """Take over the solver's updates, as `comm.attach` does."""
        self.solver = solver
        self.updater = solver.row_updater()
        solver.sync = self
        solver.net.observer = TeamObserver(self, solver.iteration)

    def owner(self, slot):
        return slot % self.hub.world

    def wait(self, slot):
        pass

    def updates_locally(self, slot):
        return False

    def average(self, values, then):
        found = self.hub.exchange(self.rank, values)
        assert values.dtype == np.float64
        then(sum(found) / self.hub.world if self.rank == 0 else values)

    def sum_in_order(self, values, count):
        found = self.hub.exchange(self.rank, list(values))
        world = self.hub.world
        assert [len(f) for f in found] == [
            len(range(r, count, world)) for r in range(world)
        ]
        total = found[0][0].copy()
        for k in range(1, count):
            total += found[k % world][k // world]
        return total

    def agree(self, requests):
        together = 0
        for bits in self.hub.exchange(self.rank, requests):
            together |= bits
        self._answers.append(together)
        return self._answers.pop(0)

    def gather(self, item):
        found = self.hub.exchange(self.rank, json.dumps(item))
        return [json.loads(text) for text in found] if self.rank == 0 else None

    def collect_history(self):
        own = [slot.index for slot in self.solver.net.slots]
        history = self.solver.history
        mine = {i: history.of(i) for i in own if self.owner(i) == self.rank}
        for arrays in self.hub.exchange(self.rank, mine):
            for i, quantities in arrays.items() if self.rank == 0 else ():
                for to, array in zip(history.of(i), quantities, strict=True):
                    np.copyto(to, array)
        self.hub.exchange(self.rank, None)


class TeamObserver:
    """Sums gradients in rank order, lets owners update and spreads the values."""

    def __init__(self, sync, iteration):
        self._sync, self._iteration = sync, iteration

    def before_forward(self, layer):
        pass

    def grad_ready(self, slot, event):
        pass

    def factors_ready(self, slot):
        pass

    def backward_done(self):
        sync, solver = self._sync, self._sync.solver
        blobs, hub = solver.net.learnable, sync.hub
        found = hub.exchange(sync.rank, [b.diff.reshape(-1).copy() for b in blobs])
        scale = 1 / (hub.world * solver.param.iter_size)
        pieces = []
        for i, blob in enumerate(blobs):
            if sync.owner(i) == sync.rank:
                total = found[0][i].copy()
                for diffs in found[1:]:
                    total += diffs[i]
                history = sync.updater.history_of(i)
                pieces.append(RowPiece(i, blob.data.reshape(-1), total, history))
        sync.updater.apply(self._iteration, pieces, scale)
        values = hub.exchange(sync.rank, [b.data.copy() for b in blobs])
        for i, blob in enumerate(blobs):
            if sync.owner(i) != sync.rank:
                np.copyto(blob.data, values[sync.owner(i)][i])
            blob.touch()
        hub.exchange(sync.rank, None)
        self._iteration += 1


class Member:
    """One rank: its solver, all its events."""

    def __init__(self, hub, rank, text, net, *, resume=None, lag=0, **options):
        self.rank, self.recorder = rank, Recorder()
        self.solver = Solver(
            make_param(text, net),
            ops=get_ops(options.pop("backend", "reference")),
            options=SolverOptions(**options),
            shard=Shard(rank, hub.world),
            events=[self.recorder],
        )
        if resume and rank == 0:
            self.solver.restore(resume)
        begin_alike(hub, rank, self.solver)
        TeamSync(hub, rank, lag).attach(self.solver)


def begin_alike(hub, rank, solver):
    """Rank 0's start for all, as the command line does it."""
    own = export_start(solver)
    sent = hub.exchange(rank, (json.dumps(own.meta), own.arrays))[0]
    if rank:
        import_start(solver, Handover(json.loads(sent[0]), sent[1]))
    hub.exchange(rank, None)


def run_team(world, text, net, work, **settings):
    """``work(member)`` on ``world`` ranks; the members, closed."""
    hub = Hub(world)

    def run(rank):
        text_here = text(rank) if callable(text) else text
        member = Member(hub, rank, text_here, net, **settings)
        try:
            member.result = work(member)
        finally:
            member.solver.close()
        return member

    return hub.run(run)
