"""Scores of the test nets, averaged over ``test_iter`` batches as Caffe does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from poseidon_caffe.net.net import Net
from poseidon_caffe.solver.events import (
    Event,
    OutputValue,
    TestInterrupted,
    TestOutputs,
    TestStarted,
)
from poseidon_caffe.types import Array

__all__ = ["Tester", "output_values"]


def output_values(net: Net, values: Sequence[Array] | None = None) -> list[OutputValue]:
    """Every element of every output of ``net``, numbered as Caffe prints them.

    Args:
        net: the net whose outputs they are.
        values: one flat array per output; None takes the blobs' present data.
    """
    weights = net.loss_weights
    if values is None:
        values = [blob.data.reshape(-1) for blob in net.output_blobs]
    found: list[OutputValue] = []
    for name, array in zip(net.output_names, values, strict=True):
        for value in array:
            found.append(
                OutputValue(len(found), name, float(value), weights.get(name, 0.0))
            )
    return found


class Tester:
    """Runs test nets with the train net's parameters.

    Args:
        param: the SolverParameter.
        net: the train net.
        test_nets: one per ``test_iter``.
        emit: takes events.
        should_stop: asked before each batch.
    """

    def __init__(
        self,
        param: Any,
        net: Net,
        test_nets: Sequence[Net],
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._param = param
        self._net = net
        self._test_nets = test_nets
        self._emit = emit
        self._should_stop = should_stop

    def run_all(self, iteration: int) -> bool:
        """Test every net; False when a stop was requested meanwhile.

        An interrupted round is undone, so that a resumed run, which starts with
        the same tests, reads the records that an unbroken one would.
        """
        before = [net.state() for net in self._test_nets]
        for index in range(len(self._test_nets)):
            if self.run(index, iteration) is None:
                for net, state in zip(self._test_nets, before, strict=True):
                    net.restore_state(state)
                return False
        return True

    def run(self, index: int, iteration: int) -> list[OutputValue] | None:
        """Mean scores of one net; None when a stop was requested meanwhile."""
        self._emit(TestStarted(iteration, index))
        net = self._test_nets[index]
        net.share_trained_layers_with(self._net)
        count = int(self._param.test_iter[index])
        total_loss, sums = 0.0, [np.zeros(0)] * len(net.output_names)
        for batch in range(count):
            if self._should_stop():
                self._emit(TestInterrupted())
                return None
            total_loss += net.forward()
            scores = [
                blob.data.reshape(-1).astype(np.float64) for blob in net.output_blobs
            ]
            sums = scores if batch == 0 else _add(sums, scores)
        outputs = output_values(net, [array / count for array in sums])
        loss = total_loss / count if self._param.test_compute_loss else None
        self._emit(TestOutputs(iteration, index, tuple(outputs), loss))
        return outputs


def _add(sums: Sequence[Array], scores: Sequence[Array]) -> list[Array]:
    """Element by element; a batch of another shape counts as far as it reaches."""
    return [
        total[: score.size] + score[: total.size]
        for total, score in zip(sums, scores, strict=True)
    ]
