"""Scores of test nets."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.solver.events import TestInterrupted, TestOutputs, TestStarted
from poseidon_caffe.solver.testing import output_values
from tests.solver.support import NET, feed, make_solver, weights

SCORED = (
    NET.replace("constant", "gaussian").replace(
        '"gaussian" } } }', '"constant" value: 2 } } }'
    )
    + """
layer { name: "extra" type: "Power" bottom: "ip2" top: "extra"
  power_param { scale: 0 shift: 3 } include { phase: TEST } }
"""
)
TESTED = "test_iter: 4 test_interval: 2 test_compute_loss: true "


def test_mean_over_the_batches(recorder):
    solver = make_solver(TESTED, SCORED, events=[recorder])
    losses = []
    net = solver.test_nets[0]
    net.after_forward_hooks.append(
        lambda i: (
            net.layer_names[i] == "loss"
            and losses.append(float(net.blobs["loss"].data))
        )
    )
    outputs = solver.test(0)
    assert len(set(losses)) == 4
    assert [o.index for o in outputs] == list(range(33))
    by_name = {o.name: o for o in outputs}
    assert by_name["loss"].value == pytest.approx(np.mean(losses), rel=1e-6)
    assert by_name["loss"].loss_weight == 1
    assert by_name["extra"].value == 3
    assert by_name["extra"].loss_weight == 0
    event = recorder.of(TestOutputs)[0]
    assert event.outputs == tuple(outputs)
    assert event.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert recorder.of(TestStarted) == [TestStarted(0, 0)]


def test_loss_only_when_asked(recorder):
    make_solver("test_iter: 1 test_interval: 2", events=[recorder]).test(0)
    assert recorder.of(TestOutputs)[0].loss is None


def test_test_nets_use_the_trained_weights():
    solver = make_solver("test_iter: 1 test_interval: 100")
    feed(solver)
    first = solver.test(0)[0].value
    trained = solver.net.blobs
    solver.test_nets[0].blobs["data"].data[...] = trained["data"].data
    solver.test_nets[0].blobs["label"].data[...] = trained["label"].data
    solver.step(20)
    assert solver.test(0)[0].value < first
    for a, b in zip(solver.net.layers, solver.test_nets[0].layers, strict=True):
        for p, q in zip(a.blobs, b.blobs, strict=True):
            assert np.shares_memory(p.data, q.data)


def test_testing_changes_no_weights():
    solver = make_solver(TESTED, NET)
    before = weights(solver)
    solver.test_all()
    for a, b in zip(before, weights(solver), strict=True):
        assert a.tobytes() == b.tobytes()


def test_all_test_nets_in_turn(recorder):
    solver = make_solver("test_iter: [1, 2] test_interval: 1", events=[recorder])
    assert solver.test_all()
    assert [e.index for e in recorder.of(TestOutputs)] == [0, 1]


def test_a_stop_interrupts_and_undoes_the_round(recorder):
    solver = make_solver("test_iter: [2, 3] test_interval: 1", NET, events=[recorder])
    before = [net.state() for net in solver.test_nets]
    net = solver.test_nets[1]
    net.before_forward_hooks.append(lambda i: i == 0 and solver.request_stop())
    assert not solver.test_all()
    assert len(recorder.of(TestInterrupted)) == 1
    assert [e.index for e in recorder.of(TestOutputs)] == [0]
    assert [net.state() for net in solver.test_nets] == before
    assert solver.tester.dealt == [0, 0]


def test_outputs_of_a_net():
    solver = make_solver()
    feed(solver)
    loss = solver.net.forward()
    (output,) = output_values(solver.net)
    assert (output.index, output.name, output.loss_weight) == (0, "loss", 1)
    assert output.value == pytest.approx(loss)


def test_no_batches_no_scores(recorder):
    """Caffe takes ``test_iter: 0``, and some turn tests off by it."""
    solver = make_solver("test_iter: 0 test_interval: 1", events=[recorder])
    feed(solver)
    solver.step(2)
    assert [event.outputs for event in recorder.of(TestOutputs)] == [(), ()]
