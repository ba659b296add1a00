"""One rank's start, taken over by the others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.errors import ClusterError
from poseidon_caffe.solver.handover import (
    Handover,
    export_start,
    import_start,
    start_arrays,
)
from poseidon_caffe.types import Shard
from tests.solver.support import INPUT_NET, digest, feed, make_solver


def sent(start):
    """As a message brings it."""
    arrays = [array.copy() for array in start.arrays]
    return Handover(json.loads(json.dumps(start.meta)), arrays)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_everything_is_taken_over(kind):
    text = f'type: "{kind}" momentum: 0.9 average_loss: 4 '
    text += 'lr_policy: "multistep" gamma: 0.5 stepvalue: 2'
    first = make_solver(text + " random_seed: 4")
    feed(first)
    first.step(3)
    first.keep_window = True
    second = make_solver(text + " random_seed: 5")
    versions = [blob.version for blob in second.net.learnable]
    import_start(second, sent(export_start(first)))
    assert digest(second) == digest(first)
    assert (second.iteration, second.seed) == (3, first.seed)
    assert second.learning_rate == first.learning_rate
    assert second.window.values() == first.window.values()
    for blob, version in zip(second.net.learnable, versions, strict=True):
        assert blob.version > version
    for solver in (first, second):
        feed(solver, 3)
        solver.step(2)
    assert digest(second) == digest(first)
    assert second.window.values() == first.window.values()


def test_a_history_of_zeros_stays_at_home():
    start = export_start(make_solver('type: "Adam"'))
    assert [a.size for a in start.arrays] == [60, 10, 40, 4]
    assert not start.meta["has_history"]


def test_nothing_is_copied_on_the_way():
    solver = make_solver('type: "Adam"')
    solver.history.of(2)[0][...] = 1
    start = export_start(solver)
    start.arrays[0][...] = 3
    start.arrays[4 + 4][...] = 4
    assert (solver.net.learnable[0].data == 3).all()
    assert (solver.history.of(0)[1] == 4).all()
    # What came in place is there already.
    import_start(solver, Handover(start.meta, start_arrays(solver)))
    assert (solver.net.learnable[0].data == 3).all()
    assert [a.size for a in start.arrays] == [60, 10, 40, 4] * 3
    assert all(a.flags.c_contiguous for a in start.arrays)


def test_old_momentum_unfreezes_a_parameter():
    frozen = INPUT_NET.replace("param { lr_mult: 1 }", "param { lr_mult: 0 }")
    first, second = make_solver("", frozen), make_solver("", frozen)
    assert second.updater.is_frozen(0)
    assert not second.updater.is_frozen(1)
    first.history.of(0)[0][...] = 1
    import_start(second, sent(export_start(first)))
    assert not second.updater.is_frozen(0)


def test_data_begin_where_rank_0s_do_with_any_seed(lmdb_solver):
    first = lmdb_solver("random_seed: 1")
    second = lmdb_solver("random_seed: 2")
    second.shard = Shard(1, 2)
    own = second.net.state()["drop"]
    import_start(second, sent(export_start(first)))
    state = second.net.state()
    assert state["data"] == first.net.state()["data"]
    assert state["drop"] == own  # draws from (seed, rank), never rank 0's numbers
    batches = []
    for solver in (first, second):
        solver.net.forward()
        batches.append(solver.net.blobs["data"].data.copy())
    np.testing.assert_array_equal(*batches)  # both are built as one of one here


@pytest.mark.parametrize(
    ("text", "net"),
    [('type: "Adam"', INPUT_NET), ("", INPUT_NET.replace("output: 10", "output: 9"))],
)
def test_other_nets_and_solvers_are_refused(text, net):
    start = export_start(make_solver())
    with pytest.raises(ClusterError, match="rank 0 has another net or solver"):
        import_start(make_solver(text, net), start)
