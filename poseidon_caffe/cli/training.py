"""The work of ``poseidon train``: wires solver, log, progress line and signals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.gpus import training_gpu
from poseidon_caffe.cli.launched import Launched
from poseidon_caffe.cli.models import FAST, open_ops
from poseidon_caffe.cli.signals import EarlyInterrupt, SignalActions
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.listener import GlogListener
from poseidon_caffe.report.progress import ProgressListener, may_draw
from poseidon_caffe.schema.upgrade import read_solver
from poseidon_caffe.solver.batches import effective_batch
from poseidon_caffe.solver.events import SolverListener
from poseidon_caffe.solver.resume import find_newest_snapshot
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import Shard

__all__ = ["Training"]


class Training:
    """One training run.

    Args:
        args: of the command ``train``, checked.
        log: where the lines go.
        threads: that compute.
        place: among the ranks of the job.
    """

    def __init__(
        self,
        args: Arguments,
        log: Glog,
        threads: int,
        place: Launched = Launched(),  # noqa: B008 - frozen
    ) -> None:
        self._args, self._log, self._threads = args, log, threads
        self._path = args.text("solver")
        self._place = place
        self._gpu: GpuSettings | None = None

    def run(self) -> int:
        """Train to the end or until stopped; the exit code.

        Raises:
            PoseidonError: anything is wrong with files, settings or data.
        """
        with EarlyInterrupt() as early:
            solver = self.build(self.read())
            try:
                self.load_weights(solver)
                snapshot = self.snapshot(solver)
                early.check()
                with self.watched(solver):
                    solver.solve(snapshot)
            finally:
                solver.close()
        self._log.info(tags.DONE, "Optimization Done.")
        return 0

    def read(self) -> Any:
        """The solver's prototxt with ``--level``, ``--stage`` and the mode applied.

        Decides what computes, too.
        """
        param = read_solver(self._path)
        args = self._args
        if "level" in args.given:
            param.train_state.level = args.integer("level")
        if args.items("stage"):
            param.train_state.stage.extend(args.items("stage"))
        self._gpu = training_gpu(args, param, self._path, self._place, self._log)
        return param

    def build(
        self,
        param: Any,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        seed: int | None = None,
        divide_batch: int = 1,
        events: Sequence[SolverListener] = (),
    ) -> Solver:
        """The solver with its nets.

        Args:
            param: the SolverParameter.
            shard: which of several workers this is.
            seed: used when ``random_seed`` is not set; None draws one.
            divide_batch: workers that share the train net's batch.
            events: listeners besides the log.
        """
        return Solver(
            param,
            ops=open_ops(self._log, self._threads, self._gpu),
            options=replace(_options(param), seed=seed, divide_batch=divide_batch),
            shard=shard,
            path=self._path,
            events=[GlogListener(self._log), *events],
        )

    def load_weights(self, solver: Solver) -> None:
        """Copy every file of ``--weights`` into the net, in order."""
        for path in self._args.items("weights"):
            solver.load_weights(path)

    @contextlib.contextmanager
    def watched(self, solver: Solver, *, is_rank: bool = False) -> Iterator[None]:
        """Signals become requests to ``solver``, and its progress is drawn."""
        actions = SignalActions(
            solver,
            self._args.text("sigint_effect"),
            self._args.text("sighup_effect"),
            is_rank=is_rank,
        )
        progress = self._progress(solver)
        self._log.info(tags.START, "Starting Optimization")
        try:
            with actions:
                yield
        finally:
            if progress is not None:
                progress.close()

    def snapshot(self, solver: Solver) -> str | None:
        """The solverstate to go on from, None to start afresh."""
        given = self._args.text("snapshot")
        if given or not self._args.text("resume"):
            return given or None
        found = find_newest_snapshot(solver.prefix)
        if found is None:
            self._log.info(
                tags.RESUME, f"No whole snapshot of {solver.prefix}: starting afresh"
            )
        return found

    def _progress(self, solver: Solver) -> ProgressListener | None:
        """The progress line, on a terminal and unless it is not wanted."""
        wanted = self._args.boolean("progress") and self._log.min_level == 0
        if not wanted or not may_draw(self._log.stream):
            return None
        images = effective_batch(solver.net, int(solver.param.iter_size))
        listener = ProgressListener(self._log, images * solver.shard.world)
        solver.listeners.append(listener)
        return listener


def _options(param: Any) -> SolverOptions:
    """Fast nets, unless ``debug_info`` wants to look at every blob."""
    if param.debug_info:
        return SolverOptions()
    scoring = replace(FAST, forward_only=True)
    return SolverOptions(net=FAST, test_net=scoring)
