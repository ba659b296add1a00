"""The displayed numbers are the workers' means, however late they come."""

from __future__ import annotations

import pytest

from poseidon_caffe.solver.events import FinalLoss, IterationDisplayed
from poseidon_caffe.solver.sync import LocalSync
from tests.solver.support import Recorder, feed, make_solver


class Late(LocalSync):
    """Adds 10 to the first value, 11 to the next, ...; tells when asked."""

    def __init__(self):
        self.waiting = []

    def average(self, values, then):
        assert values.dtype == "float64"
        told = values + 10 + range(len(values))
        self.waiting.append(lambda: then(told))


def test_means_are_told_when_they_come():
    recorder = Recorder()
    solver = make_solver("display: 1 max_iter: 2", events=[recorder])
    feed(solver)
    plain = Recorder()
    alone = make_solver("display: 1 max_iter: 2", events=[plain])
    feed(alone)
    alone.step(2)
    solver.sync = late = Late()
    solver.step(2)
    assert not recorder.of(IterationDisplayed)
    for tell in late.waiting:
        tell()
    got, want = recorder.of(IterationDisplayed), plain.of(IterationDisplayed)
    assert [e.iteration for e in got] == [0, 1]
    for a, b in zip(got, want, strict=True):
        assert a.loss == b.loss + 10
        assert [o.value for o in a.outputs] == [o.value + 11 for o in b.outputs]
        assert [o.name for o in a.outputs] == [o.name for o in b.outputs]
        assert a.outputs[0].loss_weight == 1


def test_final_loss_is_a_mean_too(tmp_path):
    recorder = Recorder()
    text = f'display: 1 max_iter: 1 snapshot_prefix: "{tmp_path}/p"'
    solver = make_solver(text, events=[recorder])
    feed(solver)
    solver.sync = late = Late()
    solver.solve()
    late.waiting[-1]()
    assert recorder.of(FinalLoss) == [
        FinalLoss(1, pytest.approx(solver.window.mean + 10))
    ]
