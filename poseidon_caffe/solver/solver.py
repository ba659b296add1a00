"""The training loop, in the order of Caffe 1.0."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.errors import (
    PoseidonError,
    SnapshotError,
    SolverError,
)
from poseidon_caffe.net.blame import blaming_parameters
from poseidon_caffe.net.net import Net
from poseidon_caffe.schema.printer import to_prototxt
from poseidon_caffe.schema.upgrade import upgrade_solver
from poseidon_caffe.solver.building import NetBuilder
from poseidon_caffe.solver.checkpoint import load_checkpoint, save_checkpoint
from poseidon_caffe.solver.display import Display
from poseidon_caffe.solver.events import (
    DebugLine,
    Event,
    Finished,
    IterationFinished,
    LayerIgnored,
    LearningRateDisplayed,
    OutputValue,
    ScaffoldingDone,
    SnapshotFailed,
    SolverInitializing,
    SolverListener,
    SolverStarted,
    StepReached,
    StoppedEarly,
    Warned,
    WeightsLoaded,
)
from poseidon_caffe.solver.gradients import sum_gradients
from poseidon_caffe.solver.history import History
from poseidon_caffe.solver.numerics import bad_loss
from poseidon_caffe.solver.options import Callbacks, SolverOptions
from poseidon_caffe.solver.requests import Requests
from poseidon_caffe.solver.row_updates import SolverRowUpdater
from poseidon_caffe.solver.rules import make_rule
from poseidon_caffe.solver.schedule import ScheduleState, check_schedule, learning_rate
from poseidon_caffe.solver.snapshot import (
    SnapshotPaths,
    probe_prefix,
    snapshot_prefix,
)
from poseidon_caffe.solver.sync import LocalSync
from poseidon_caffe.solver.testing import Tester
from poseidon_caffe.solver.update import Updater, check_update_settings
from poseidon_caffe.solver.window import LossWindow
from poseidon_caffe.solver.worker_state import WorkerState
from poseidon_caffe.types import (
    GradientSync,
    RowUpdater,
    Shard,
    UpdateRule,
    UpdateStep,
)

__all__ = ["Solver", "SolverOptions"]


class Solver:
    """Trains the net that a SolverParameter names.

    Args:
        param: the SolverParameter; a copy is kept.
        ops: the backend.
        options: settings of the program.
        shard: which worker of a cluster this is; rank 0 reads weights and writes
            snapshots.
        path: the solver's file, "" when it has none.
        events: listeners that shall see the building of the nets too.

    Attributes:
        net, test_nets: share their parameters when a test runs.
        iteration: how often the parameters have been updated.
        rule, sync: who updates what; a cluster replaces ``sync``.
        history, schedule, window: what snapshots keep besides the parameters.
        keep_window: the window is of the iterations just before the next one.
        resumed_workers: all workers' states from a snapshot just restored.
        tester: runs the test nets.
        callbacks: functions run inside every iteration.
        listeners: told about everything that happens.

    Raises:
        SolverError: settings are missing, unknown or contradict each other.
        SnapshotError: ``snapshot_prefix`` cannot be written.
        PoseidonError: a net cannot be built.
    """

    def __init__(
        self,
        param: Any,
        *,
        ops: Ops,
        options: SolverOptions = SolverOptions(),  # noqa: B008 - frozen
        shard: Shard = Shard(),  # noqa: B008 - frozen
        path: str = "",
        events: Sequence[SolverListener] = (),
    ) -> None:
        self.param = type(param)()
        self.param.CopyFrom(param)
        self.ops, self.options, self.shard, self.path = ops, options, shard, path
        self.listeners: list[SolverListener] = list(events)
        self.callbacks = Callbacks()
        self.iteration = 0
        self.sync: GradientSync = LocalSync()
        self.schedule = ScheduleState()
        self._requests = Requests(is_alone=shard.world == 1)
        self._snapshot_error: SnapshotError | None = None
        upgrade_solver(self.param, path or "<solver>")
        self.rule: UpdateRule = make_rule(self.param)
        check_schedule(self.param)
        check_update_settings(self.param)
        if self.param.snapshot > 0:
            self._probe()
        self.emit(SolverInitializing(to_prototxt(self.param)))
        self.seed = self._choose_seed()
        self.window = LossWindow(self.param.average_loss)
        self.keep_window = False
        self.resumed_workers: list[WorkerState] = []
        self._display = Display(self.param, self.emit)
        self._build()

    def _build(self) -> None:
        builder = NetBuilder(
            self.param, self.ops, self.options, self.seed, self.shard, self.path,
            self.emit,
        )  # fmt: skip
        self.net: Net = builder.train_net()
        self.test_nets: list[Net] = builder.test_nets()
        if self.shard.rank == 0:
            for name in (n for entry in self.param.weights for n in entry.split(",")):
                self.load_weights(name.strip())
        self.history = History.of_net(self.net, self.rule.history_count)
        self.updater = Updater(self.param, self.net, self.rule, self.history, self.emit)
        self.tester = Tester(
            self.param, self.net, self.test_nets, self.emit,
            lambda: self._requests.must_stop, self.shard, lambda: self.sync,
        )  # fmt: skip
        self.net.debug_listener = lambda text: self.emit(DebugLine(text))
        self.emit(ScaffoldingDone())

    def _choose_seed(self) -> int:
        if self.param.random_seed >= 0:
            return int(self.param.random_seed)
        chosen = self.options.seed
        return secrets.randbits(63) if chosen is None else chosen

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self.listeners:
            listener.on_event(event)

    # -- looking at it -----------------------------------------------------------
    @property
    def type(self) -> str:
        """The solver's type: "SGD", "Adam", ..."""
        return str(self.param.type)

    @property
    def learning_rate(self) -> float:
        """Global rate of the next update."""
        state = ScheduleState(self.schedule.current_step)
        return learning_rate(self.param, self.iteration, state)

    @property
    def prefix(self) -> str:
        """Start of all snapshot names."""
        return snapshot_prefix(self.param, self.path)

    # -- what other threads and signal handlers may call ---------------------------
    def request_stop(self) -> None:
        """Stop after the present iteration (or test batch)."""
        self._requests.ask_stop()

    def request_snapshot(self) -> None:
        """Write a snapshot after the present iteration."""
        self._requests.ask_snapshot()

    # -- training ------------------------------------------------------------------
    def solve(self, resume_file: str | None = None) -> None:
        """Train to ``max_iter`` or until a stop is requested.

        Args:
            resume_file: a solverstate to go on from.

        Raises:
            NumericsError: the loss became NaN or infinite.
            SnapshotError: the state cannot be resumed, or the last snapshot could
                not be written (after everything else has been done).
        """
        if not self.param.HasField("max_iter"):
            msg = "max_iter is missing: for how many iterations shall it train?"
            raise SolverError(msg)
        if self.param.snapshot_after_train:
            self._probe()
        if resume_file is not None:
            self.restore(resume_file)
        self.emit(
            SolverStarted(
                name=self.net.name,
                solver_type=self.type,
                lr_policy=self.param.lr_policy,
                iteration=self.iteration,
                max_iter=self.param.max_iter,
            )
        )
        stopped = self._run(self.param.max_iter - self.iteration)
        self._finish(stopped=stopped)
        self._requests.clear_stop()
        if self._snapshot_error is not None:
            raise self._snapshot_error

    def step(self, iterations: int) -> None:
        """Train for ``iterations`` more iterations.

        Raises:
            NumericsError: the loss became NaN or infinite.
        """
        self._run(iterations)

    def _run(self, iterations: int) -> bool:
        """Test and train for so many iterations; whether a stop was requested."""
        stop_at = self.iteration + iterations
        if not self.keep_window:
            self.window.replace()
        self.keep_window, self.resumed_workers = False, []
        self._display.restart_clock(self.iteration)
        while self.iteration < stop_at:
            first = self.iteration == 0
            if self._test_is_due() and (not first or self.param.test_initialization):
                self.test_all()
            if not self._requests.must_stop:
                self._iterate()
            if self._requests.must_stop:
                self._requests.clear_stop()
                return True
        return False

    def _iterate(self) -> None:
        """One iteration: gradients, display, update, snapshot."""
        for callback in self.callbacks.on_start:
            callback()
        display = self._display.is_due(self.iteration)
        debug = display and bool(self.param.debug_info)
        self.net.debug_info = debug or bool(self.net.param.debug_info)
        loss = self._gradients()
        self.window.add(loss)
        if display:
            self._display.show(self.net, self.iteration, self.window.mean, self.sync)
        for callback in self.callbacks.on_gradients_ready:
            callback()
        self.apply_update()
        self.iteration += 1
        self.emit(IterationFinished(self.iteration, loss))
        self._requests.agree(self.sync)
        due = self.param.snapshot > 0 and self.iteration % self.param.snapshot == 0
        if self._requests.take_snapshot() or due:
            self._try_snapshot()

    def _gradients(self) -> float:
        """The gradients of this iteration; the mean loss, checked."""
        passes = int(self.param.iter_size)
        return sum_gradients(self.net, passes, self._check_loss)

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise bad_loss(self.net, loss, self.iteration, self.learning_rate)

    @np.errstate(all="ignore")
    def apply_update(self) -> None:
        """Update the parameters once from the gradients that are there."""
        step_before = self.schedule.current_step
        rate = learning_rate(self.param, self.iteration, self.schedule)
        if self.param.lr_policy == "multistep" and (
            step_before != self.schedule.current_step
        ):
            self.emit(StepReached(self.iteration, self.schedule.current_step))
        display = self._display.is_due(self.iteration)
        if display:
            self.emit(LearningRateDisplayed(self.iteration, rate))
        with blaming_parameters(self.net):  # whose history is made at first use
            self.updater.apply(
                UpdateStep(rate, self.iteration),
                self.sync,
                debug=display and bool(self.param.debug_info),
            )

    def _finish(self, *, stopped: bool) -> None:
        """What follows the last iteration: snapshot, last loss, last test."""
        snapshot = self.param.snapshot
        taken = snapshot > 0 and self.iteration % snapshot == 0
        if self.param.snapshot_after_train and not taken:
            self._try_snapshot()
        if stopped:
            self.emit(StoppedEarly(self.iteration))
            return
        if self._display.is_due(self.iteration):
            self.wait()
            self.window.add(self.net.forward())
            self._display.show_final(self.iteration, self.window.mean, self.sync)
        if self._test_is_due():
            self.test_all()
        self.wait()
        self.emit(Finished(self.iteration))

    # -- testing -------------------------------------------------------------------
    def _test_is_due(self) -> bool:
        interval = int(self.param.test_interval)
        return interval > 0 and self.iteration % interval == 0

    def test_all(self) -> bool:
        """Test every test net; False when a stop was requested meanwhile."""
        self.wait()
        return self.tester.run_all(self.iteration)

    def test(self, index: int = 0) -> list[OutputValue]:
        """Scores of one test net, averaged over its ``test_iter`` batches."""
        self.wait()
        return self.tester.run(index, self.iteration) or []

    def row_updater(self, ops: Ops | None = None) -> RowUpdater:
        """What applies the rule to rows, from the present iteration on.

        Args:
            ops: a backend for it alone, if another thread than the solver's uses it
                (see `SolverRowUpdater`); None: the solver's for NumPy arrays.
        """
        return SolverRowUpdater(self, ops or self.ops.host)

    def wait(self) -> None:
        """Return once every parameter may be read."""
        for slot in self.net.slots:
            self.sync.wait(slot.index)

    # -- weights and snapshots --------------------------------------------------------
    def load_weights(self, path: str) -> None:
        """Start from the weights in ``path`` (layers are matched by name).

        Raises:
            WeightsError: listing every parameter that does not fit.
        """
        self.emit(WeightsLoaded(path))
        for name in self.net.copy_trained_from(path):
            self.emit(LayerIgnored(name))

    def snapshot(self) -> SnapshotPaths:
        """Write a snapshot of this moment, whole or not at all.

        Returns:
            Names of the files (only rank 0 writes them).

        Raises:
            SnapshotError: it could not be written.
        """
        self.wait()
        return save_checkpoint(self)

    def restore(self, path: str) -> None:
        """Go on from a solverstate, Caffe's or ours, exactly where it stopped.

        Raises:
            SnapshotError: missing, damaged, or of another net or solver type.
            WeightsError: its weights do not fit the net.
        """
        load_checkpoint(self, path)

    def _try_snapshot(self) -> None:
        """Write a snapshot; a failure is told, and kept for the end of `solve`."""
        self._snapshot_error = None
        try:
            self.snapshot()
        except SnapshotError as error:
            self._snapshot_error = error
            self.emit(SnapshotFailed(self.iteration, str(error)))

    def _probe(self) -> None:
        if self.shard.rank == 0:
            probe_prefix(self.prefix)

    def close(self) -> None:
        """Stop data threads and close databases of all nets."""
        for net in (self.net, *self.test_nets):
            try:
                net.close()
            except PoseidonError as error:
                self.emit(Warned(str(error)))
