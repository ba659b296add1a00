"""One update of all parameters: clipping, decay, frozen ones, who updates."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import SolverError
from poseidon_caffe.solver.events import DebugLine, GradientsClipped
from poseidon_caffe.solver.sync import LocalSync
from tests.solver.support import INPUT_NET, Recorder, feed, make_solver, weights


def gradients(solver):
    feed(solver)
    solver.net.clear_param_diffs()
    solver.net.forward_backward()
    return [blob.diff.copy() for blob in solver.net.learnable]


def change(text, net=INPUT_NET):
    """(gradients, weights before, weights after one update, events)."""
    recorder = Recorder()
    solver = make_solver(text, net, events=[recorder])
    g, before = gradients(solver), weights(solver)
    solver.apply_update()
    return g, before, weights(solver), recorder


def test_multipliers():
    g, before, after, _ = change("weight_decay: 0.5")
    for i, (lr, decay) in enumerate([(1, 1), (2, 0), (1, 1), (1, 1)]):
        want = before[i] - 0.1 * lr * (g[i] + 0.5 * decay * before[i])
        np.testing.assert_allclose(after[i], want, rtol=1e-5, atol=1e-6)


def test_l1():
    g, before, after, _ = change('weight_decay: 0.5 regularization_type: "L1"')
    want = before[0] - 0.1 * (g[0] + 0.5 * np.sign(before[0]))
    np.testing.assert_allclose(after[0], want, rtol=1e-5, atol=1e-6)


def test_clipping_comes_before_iter_size_and_decay():
    g, before, after, recorder = change(
        "clip_gradients: 0.01 iter_size: 4 weight_decay: 1"
    )
    norm = np.sqrt(sum(np.square(a).sum() for a in g))
    (event,) = recorder.of(GradientsClipped)
    assert event.norm == pytest.approx(norm, rel=1e-5)
    assert event.limit == pytest.approx(0.01)
    assert event.scale == pytest.approx(0.01 / norm, rel=1e-5)
    want = before[0] - 0.1 * (g[0] * event.scale / 4 + before[0])
    np.testing.assert_allclose(after[0], want, rtol=1e-4, atol=1e-6)


def test_small_gradients_are_not_clipped():
    g, before, after, recorder = change("clip_gradients: 1e6")
    assert not recorder.of(GradientsClipped)
    np.testing.assert_allclose(after[0], before[0] - 0.1 * g[0], rtol=1e-5, atol=1e-6)


FROZEN = INPUT_NET.replace("param { lr_mult: 1 }", "param { lr_mult: 0 }")


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdaDelta"])
def test_frozen_parameters_stay_bit_for_bit(kind):
    solver = make_solver(f'type: "{kind}" weight_decay: 0.5', FROZEN)
    before, version = weights(solver), solver.net.learnable[0].version
    for seed in range(3):
        feed(solver, seed)
        solver.step(1)
    after = weights(solver)
    assert after[0].tobytes() == before[0].tobytes()
    assert after[1].tobytes() != before[1].tobytes()
    assert solver.net.learnable[0].version == version
    assert solver.net.learnable[1].version > version


def test_old_momentum_still_moves_a_parameter_frozen_later(tmp_path):
    prefix = f'momentum: 0.9 snapshot_prefix: "{tmp_path}/a"'
    first = make_solver(prefix)
    feed(first)
    first.step(1)
    paths = first.snapshot()
    second = make_solver(prefix, FROZEN)
    second.restore(paths.state)
    before = weights(second)
    history = second.history.of(0)[0].copy()
    feed(second)
    second.step(1)
    want = before[0].reshape(-1) - np.float32(0.9) * history
    np.testing.assert_allclose(weights(second)[0].reshape(-1), want, rtol=1e-6)


def test_what_others_update_is_left_alone():
    class Cluster:
        def __init__(self):
            self.waited = []

        def wait(self, slot):
            self.waited.append(slot)

        def updates_locally(self, slot):
            return slot == 2

    solver = make_solver()
    solver.sync = cluster = Cluster()
    gradients(solver)
    before = weights(solver)
    solver.apply_update()
    changed = [
        a.tobytes() != b.tobytes() for a, b in zip(before, weights(solver), strict=True)
    ]
    assert changed == [False, False, True, False]
    assert cluster.waited == [2]
    solver.wait()
    assert cluster.waited == [2, 0, 1, 2, 3]


def test_debug_lines():
    recorder = Recorder()
    solver = make_solver("debug_info: true display: 1", events=[recorder])
    feed(solver)
    before = weights(solver)
    solver.step(1)
    lines = [e.text for e in recorder.of(DebugLine)]
    updates = [line for line in lines if "[Update]" in line]
    size = np.abs(before[0]).mean()
    moved = np.abs(weights(solver)[0] - before[0]).mean()
    assert updates[0].startswith("    [Update] Layer ip1, param 0 data: ")
    data, diff = (float(part.rpartition(" ")[2]) for part in updates[0].split("; "))
    assert data == pytest.approx(size, rel=1e-4)
    assert diff == pytest.approx(moved, rel=1e-3)
    assert len(updates) == 4
    assert any("[Forward] Layer ip1, top blob ip1 data" in line for line in lines)


def test_debug_lines_only_at_displayed_iterations():
    recorder = Recorder()
    solver = make_solver("debug_info: true display: 2", events=[recorder])
    feed(solver)
    solver.step(1)
    count = len(recorder.of(DebugLine))
    assert count
    solver.step(1)
    assert len(recorder.of(DebugLine)) == count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('regularization_type: "L3"', r'"L3" is unknown \(known: L1, L2\)'),
        ("iter_size: 0", "iter_size: 0 must be at least 1"),
        ("average_loss: 0", "average_loss: 0 must be at least 1"),
    ],
)
def test_settings_are_checked(text, said):
    with pytest.raises(SolverError, match=said):
        make_solver(text)


@pytest.mark.parametrize("forced", [False, True])
def test_the_norm_has_frozen_gradients_where_backward_is_forced(forced):
    net = ("force_backward: true " if forced else "") + FROZEN
    g, _, _, recorder = change("clip_gradients: 0.001", net)
    assert g[0].any() == forced
    norm = np.sqrt(sum(np.square(a).sum() for a in g))
    assert recorder.of(GradientsClipped)[0].norm == pytest.approx(norm, rel=1e-5)


class Waits(LocalSync):
    """Keeps which slots were waited for."""

    def __init__(self):
        self.slots = set()

    def wait(self, slot):
        self.slots.add(slot)


def test_the_norm_waits_for_all_that_counts_in_it():
    solver = make_solver("clip_gradients: 0.001", "force_backward: true " + FROZEN)
    solver.sync = Waits()
    gradients(solver)
    solver.apply_update()
    assert solver.sync.slots == {slot.index for slot in solver.net.slots}
