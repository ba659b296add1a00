"""Scores of the test nets, averaged over ``test_iter`` batches as Caffe does.

The batches of all tests are dealt to the workers in turn; each runs its own.
"""

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
from poseidon_caffe.solver.scores import ScoreSum
from poseidon_caffe.types import Array, GradientSync, Shard

__all__ = ["Tester", "output_values"]


def output_values(net: Net, values: Sequence[Array] | None = None) -> list[OutputValue]:
    """Every element of every output of ``net``, numbered as Caffe prints them.

    Args:
        net: the net whose outputs they are.
        values: one flat array per output; None takes the blobs' present data.
    """
    weights = net.loss_weights
    if values is None:
        values = [blob.cpu_data.reshape(-1) for blob in net.output_blobs]
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
        shard: which worker this is.
        sync: gives what joins the workers' scores.

    Attributes:
        dealt: batches of each test net so far, on all workers together; the same on
            each of them.
    """

    def __init__(
        self,
        param: Any,
        net: Net,
        test_nets: Sequence[Net],
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
        shard: Shard,
        sync: Callable[[], GradientSync],
    ) -> None:
        self._param = param
        self._net = net
        self._test_nets = test_nets
        self._emit = emit
        self._should_stop = should_stop
        self._shard, self._sync = shard, sync
        self.dealt = [0] * len(test_nets)
        self._sizes = [[blob.count for blob in net.output_blobs] for net in test_nets]

    def run_all(self, iteration: int) -> bool:
        """Test every net; False when a stop was requested meanwhile.

        An interrupted round is undone, so that a resumed run, which starts with
        the same tests, reads the records that an unbroken one would.
        """
        before, dealt = [net.state() for net in self._test_nets], list(self.dealt)
        for index in range(len(self._test_nets)):
            if self.run(index, iteration) is None:
                for net, state in zip(self._test_nets, before, strict=True):
                    net.restore_state(state)
                self.dealt = dealt
                return False
        return True

    def run(self, index: int, iteration: int) -> list[OutputValue] | None:
        """Mean scores of one net; None when a stop was requested meanwhile."""
        self._emit(TestStarted(iteration, index))
        net = self._test_nets[index]
        net.share_trained_layers_with(self._net)
        count = int(self._param.test_iter[index])
        if count == 0:
            # As in Caffe: the line that a test starts, and no scores.
            self._emit(TestOutputs(iteration, index, (), None))
            return []
        sums = self._sum(index, count)
        if sums is None:
            self._emit(TestInterrupted())
            return None
        total_loss, *scores = sums
        outputs = output_values(net, [array / count for array in scores])
        loss = float(total_loss[0]) / count if self._param.test_compute_loss else None
        self._emit(TestOutputs(iteration, index, tuple(outputs), loss))
        return outputs

    def _sum(self, index: int, count: int) -> list[Array] | None:
        """Loss and outputs summed over the batches; None when it was stopped."""
        net, shard = self._test_nets[index], self._shard
        first = self.dealt[index] % shard.world
        scores = ScoreSum(self._sync(), shard, first, [1, *self._sizes[index]])
        for _ in range(count):
            if self._should_stop():
                return None
            self.dealt[index] += 1
            if scores.is_own:
                loss = np.array([net.forward()])
                outputs = [b.cpu_data.reshape(-1) for b in net.output_blobs]
                scores.add([loss, *outputs])
            else:
                net.skip_batch()
                scores.skip()
        return scores.finish()
