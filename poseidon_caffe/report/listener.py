"""Turns a solver's events into the lines that Caffe prints for them."""

from __future__ import annotations

from functools import singledispatchmethod

from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog, format_g
from poseidon_caffe.report.net_lines import log_net
from poseidon_caffe.solver import events
from poseidon_caffe.solver.events import OutputValue

__all__ = ["GlogListener", "loss_suffix", "output_text"]


def output_text(output: OutputValue) -> str:
    """``#0: loss = 2.3 (* 1 = 2.3 loss)``; the suffix only where there is a weight."""
    text = f"#{output.index}: {output.name} = {format_g(output.value)}"
    return text + loss_suffix(output.value, output.loss_weight)


def loss_suffix(value: float, weight: float) -> str:
    """`` (* 1 = 2.3 loss)``, or nothing when ``weight`` is 0."""
    if not weight:
        return ""
    return f" (* {format_g(weight)} = {format_g(weight * value)} loss)"


class GlogListener:
    """A `SolverListener` that writes Caffe's log.

    Args:
        log: where to.
    """

    def __init__(self, log: Glog) -> None:
        self._log = log

    def on_event(self, event: events.Event) -> None:
        """Write the lines of ``event``; unknown events have none."""
        self._write(event)

    def _outputs(self, tag: str, kind: str, outputs: tuple[OutputValue, ...]) -> None:
        for output in outputs:
            self._log.info(tag, f"    {kind} net output {output_text(output)}")

    @singledispatchmethod
    def _write(self, event: events.Event) -> None:
        """Events without a line."""

    @_write.register
    def _initializing(self, event: events.SolverInitializing) -> None:
        text = event.text.rstrip("\n")
        self._log.info(
            tags.INITIALIZING, f"Initializing solver from parameters: \n{text}"
        )

    @_write.register
    def _creating(self, event: events.NetCreating) -> None:
        if event.is_train:
            self._log.info(tags.TRAIN_NET, f"Creating training net {event.source}")
        else:
            self._log.info(
                tags.TEST_NET, f"Creating test net (#{event.index}) {event.source}"
            )

    @_write.register
    def _built(self, event: events.NetBuilt) -> None:
        log_net(self._log, event.net)

    @_write.register
    def _scaffolded(self, _event: events.ScaffoldingDone) -> None:
        self._log.info(tags.SCAFFOLDED, "Solver scaffolding done.")

    @_write.register
    def _weights(self, event: events.WeightsLoaded) -> None:
        self._log.info(tags.FINETUNE, f"Finetuning from {event.path}")

    @_write.register
    def _ignored(self, event: events.LayerIgnored) -> None:
        self._log.info(tags.IGNORED_LAYER, f"Ignoring source layer {event.name}")

    @_write.register
    def _history(self, event: events.HistoryRestored) -> None:
        self._log.info(tags.RESTORING, f"{event.solver_type}Solver: restoring history")

    @_write.register
    def _resumed(self, event: events.Resumed) -> None:
        self._log.info(tags.RESUME, f"Resuming from {event.path}")

    @_write.register
    def _solving(self, event: events.SolverStarted) -> None:
        self._log.info(tags.SOLVING, f"Solving {event.name}")
        self._log.info(tags.LR_POLICY, f"Learning Rate Policy: {event.lr_policy}")

    @_write.register
    def _testing(self, event: events.TestStarted) -> None:
        self._log.info(
            tags.TESTING, f"Iteration {event.iteration}, Testing net (#{event.index})"
        )

    @_write.register
    def _tested(self, event: events.TestOutputs) -> None:
        if event.loss is not None:
            self._log.info(tags.TEST_LOSS, f"Test loss: {format_g(event.loss)}")
        self._outputs(tags.TEST_OUTPUT, "Test", event.outputs)

    @_write.register
    def _interrupted(self, _event: events.TestInterrupted) -> None:
        self._log.info(tags.TEST_INTERRUPTED, "Test interrupted.")

    @_write.register
    def _displayed(self, event: events.IterationDisplayed) -> None:
        self._log.info(
            tags.DISPLAY,
            f"Iteration {event.iteration} ({format_g(event.iters_per_s)} iter/s, "
            f"{format_g(event.elapsed_s)}s/{event.display_iters} iters), "
            f"loss = {format_g(event.loss)}",
        )
        self._outputs(tags.TRAIN_OUTPUT, "Train", event.outputs)

    @_write.register
    def _rate(self, event: events.LearningRateDisplayed) -> None:
        rate = format_g(event.rate)
        self._log.info(tags.RATE, f"Iteration {event.iteration}, lr = {rate}")

    @_write.register
    def _step(self, event: events.StepReached) -> None:
        self._log.info(
            tags.MULTISTEP,
            f"MultiStep Status: Iteration {event.iteration}, step = {event.step}",
        )

    @_write.register
    def _clipped(self, event: events.GradientsClipped) -> None:
        self._log.info(
            tags.CLIPPING,
            "Gradient clipping: scaling down gradients (L2 norm "
            f"{format_g(event.norm)} > {format_g(event.limit)}) "
            f"by scale factor {format_g(event.scale)}",
        )

    @_write.register
    def _debug(self, event: events.DebugLine) -> None:
        self._log.info(tags.DEBUG_INFO, event.text)

    @_write.register
    def _snapshot(self, event: events.SnapshotWritten) -> None:
        kind = "HDF5 file" if event.is_hdf5 else "binary proto file"
        # Adjacent: DIGITS reads the two lines as one.
        self._log.info(tags.SNAPSHOT_NET, f"Snapshotting to {kind} {event.model_path}")
        self._log.info(
            tags.SNAPSHOT_STATE,
            f"Snapshotting solver state to {kind} {event.state_path}",
        )

    @_write.register
    def _unsaved(self, event: events.SnapshotFailed) -> None:
        self._log.warning(
            tags.SNAPSHOT_NET,
            f"snapshot at iteration {event.iteration} not written: {event.message}",
        )

    @_write.register
    def _final(self, event: events.FinalLoss) -> None:
        self._log.info(
            tags.LAST_LOSS,
            f"Iteration {event.iteration}, loss = {format_g(event.loss)}",
        )

    @_write.register
    def _stopped(self, _event: events.StoppedEarly) -> None:
        self._log.info(tags.STOPPED_EARLY, "Optimization stopped early.")

    @_write.register
    def _finished(self, _event: events.Finished) -> None:
        self._log.info(tags.SOLVED, "Optimization Done.")

    @_write.register
    def _noted(self, event: events.Noted) -> None:
        self._log.info(tags.POSEIDON, event.message)

    @_write.register
    def _data_restarted(self, event: events.DataRestarted) -> None:
        self._log.info(tags.DATA_RESTART, event.message)

    @_write.register
    def _warned(self, event: events.Warned) -> None:
        self._log.warning(tags.POSEIDON, event.message)
