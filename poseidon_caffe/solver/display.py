"""The displayed line: speed of this worker, values averaged over all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from poseidon_caffe.net.net import Net
from poseidon_caffe.solver.events import (
    Event,
    FinalLoss,
    IterationDisplayed,
    Warned,
)
from poseidon_caffe.solver.testing import output_values
from poseidon_caffe.types import Array, GradientSync

__all__ = ["Display"]


class Display:
    """Emits the lines about the training loss.

    With staleness an average may be known, and told, some iterations later.

    Args:
        param: the SolverParameter: its ``display``, 0 for never.
        emit: takes events.
    """

    def __init__(self, param: Any, emit: Callable[[Event], None]) -> None:
        self._param = param
        self._emit = emit
        self._skipped = 0
        self.restart_clock(0)

    def is_due(self, iteration: int) -> bool:
        """Whether ``iteration`` is one that is displayed."""
        return bool(self._param.display) and iteration % self._param.display == 0

    def restart_clock(self, iteration: int) -> None:
        """Measure the speed from here on."""
        self._at_s, self._iteration = time.monotonic(), iteration

    def show(self, net: Net, iteration: int, loss: float, sync: GradientSync) -> None:
        """Tell of an iteration whose forward has run.

        Args:
            net: the train net.
            iteration: being run.
            loss: smoothed.
            sync: averages loss and outputs over the workers.
        """
        elapsed_s = time.monotonic() - self._at_s
        rate = (iteration - self._iteration) / (elapsed_s or 1.0)
        outputs = output_values(net)

        def tell(means: Array) -> None:
            shown = zip(outputs, means[1:].tolist(), strict=True)
            self._emit(
                IterationDisplayed(
                    iteration=iteration,
                    loss=float(means[0]),
                    iters_per_s=rate,
                    elapsed_s=elapsed_s,
                    display_iters=self._param.display,
                    outputs=tuple(replace(out, value=mean) for out, mean in shown),
                )
            )

        values = [loss, *(output.value for output in outputs)]
        sync.average(np.array(values, np.float64), tell)
        self._warn_of_overflow(net)
        self.restart_clock(iteration)

    def _warn_of_overflow(self, net: Net) -> None:
        """Say so when updates are skipped that no smaller loss scale would save."""
        if net.loss_scale is None:
            return
        state = net.loss_scale.state()
        more = int(state["skipped"]) - self._skipped
        self._skipped = int(state["skipped"])
        if more > 0 and state["factor"] <= 1:
            self._emit(
                Warned(
                    f"{more} updates were skipped since the last display: gradients "
                    "are too large for float16; use --precision bf16"
                )
            )

    def show_final(self, iteration: int, loss: float, sync: GradientSync) -> None:
        """Tell of the smoothed loss after the last iteration."""

        def tell(means: Array) -> None:
            self._emit(FinalLoss(iteration, float(means[0])))

        sync.average(np.array([loss], np.float64), tell)
