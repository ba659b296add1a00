"""The work of ``poseidon train``: wires solver, log, progress line and signals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.models import FAST, open_ops
from poseidon_caffe.cli.signals import SignalActions
from poseidon_caffe.net.net import Net
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.listener import GlogListener
from poseidon_caffe.report.progress import ProgressListener, may_draw
from poseidon_caffe.schema.upgrade import read_solver
from poseidon_caffe.solver.resume import find_newest_snapshot
from poseidon_caffe.solver.solver import Solver, SolverOptions

__all__ = ["Training"]


class Training:
    """One training run.

    Args:
        args: of the command ``train``, checked.
        log: where the lines go.
        threads: that compute.
    """

    def __init__(self, args: Arguments, log: Glog, threads: int) -> None:
        self._args, self._log, self._threads = args, log, threads
        self._path = args.text("solver")

    def run(self) -> int:
        """Train to the end or until stopped; the exit code.

        Raises:
            PoseidonError: anything is wrong with files, settings or data.
        """
        param = self._read()
        solver = Solver(
            param,
            ops=open_ops(self._log, self._threads),
            options=_options(param),
            path=self._path,
            events=[GlogListener(self._log)],
        )
        try:
            self._start(solver)
        finally:
            solver.close()
        self._log.info(tags.DONE, "Optimization Done.")
        return 0

    def _read(self) -> Any:
        """The solver's prototxt with ``--level``, ``--stage`` and the mode applied."""
        param = read_solver(self._path)
        args = self._args
        if "level" in args.given:
            param.train_state.level = args.integer("level")
        if args.items("stage"):
            param.train_state.stage.extend(args.items("stage"))
        if param.HasField("solver_mode") and param.solver_mode == param.GPU:
            self._log.warning(
                tags.POSEIDON,
                f"{self._path}: solver_mode: GPU: GPU support is not in this release; "
                "training on the CPU",
            )
            param.solver_mode = param.CPU
        return param

    def _start(self, solver: Solver) -> None:
        for path in self._args.items("weights"):
            solver.load_weights(path)
        snapshot = self._snapshot(solver)
        actions = SignalActions(
            solver, self._args.text("sigint_effect"), self._args.text("sighup_effect")
        )
        progress = self._progress(solver)
        self._log.info(tags.START, "Starting Optimization")
        try:
            with actions:
                solver.solve(snapshot)
        finally:
            if progress is not None:
                progress.close()

    def _snapshot(self, solver: Solver) -> str | None:
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
        images = _batch_size(solver.net) * solver.param.iter_size
        listener = ProgressListener(self._log, images)
        solver.listeners.append(listener)
        return listener


def _options(param: Any) -> SolverOptions:
    """Fast nets, unless ``debug_info`` wants to look at every blob."""
    if param.debug_info:
        return SolverOptions()
    scoring = replace(FAST, forward_only=True)
    return SolverOptions(net=FAST, test_net=scoring)


def _batch_size(net: Net) -> int:
    """Length of the first axis of the first data blob; 0 when there is none."""
    for bottoms, tops in zip(net.bottom_blobs, net.top_blobs, strict=True):
        if not bottoms and tops and tops[0].shape:
            return int(tops[0].shape[0])
    return 0
