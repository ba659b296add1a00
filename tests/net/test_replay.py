"""Recorded steps are unrecorded ones, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.net import Net
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.net.replay import obstacle, sections_of
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import Phase
from tests.devices import gpu_ops
from tests.net.support import DATA, SMALL, conv, fc, layer, loss, replays
from tests.solver.support import make_param

DROPOUT = (
    DATA
    + conv("c", "data")
    + layer("drop", "Dropout", "c", "c")
    + fc("f", "c")
    + layer("drop2", "Dropout", "f", "d", "dropout_param { dropout_ratio: 0.3 }")
    + loss("loss", "d label")
)
NORMS = (
    DATA
    + conv("c", "data")
    + layer("bn", "BatchNorm", "c")
    + layer("sc", "Scale", "bn", "bn", "scale_param { bias_term: true }")
    + layer("r", "ReLU", "bn", "bn")
    + layer("lrn", "LRN", "bn", "lrn", "lrn_param { local_size: 3 }")
    + layer("p", "Pooling", "lrn", body="pooling_param { kernel_size: 2 stride: 2 }")
    + fc("f", "p")
    + loss("loss", "f label")
)
TIED = 'param { name: "w" } param { name: "b" }'
SHARED = (
    DATA
    + fc("f", "data", 6)
    + layer(
        "e1",
        "InnerProduct",
        "f",
        "e1",
        f"{TIED} inner_product_param {{ "
        'num_output: 6 weight_filler { type: "xavier" } }',
    )
    + layer(
        "e2",
        "InnerProduct",
        "e1",
        "e2",
        f"{TIED} inner_product_param {{ "
        'num_output: 6 weight_filler { type: "xavier" } }',
    )
    + layer("sum", "Eltwise", "e1 e2 f", "sum")
    + loss("loss", "sum label")
)
STOCHASTIC = (
    DATA
    + layer(
        "p",
        "Pooling",
        "data",
        "p",
        "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }",
    )
    + fc("f", "p")
    + loss("loss", "f label")
)
LSTM = (
    'layer { name: "data" type: "Input" top: "x" top: "cont" top: "goal"\n'
    "  input_param { shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 }\n"
    "    shape { dim: 3 dim: 2 dim: 5 } } }\n"
    + layer(
        "lstm",
        "LSTM",
        "x cont",
        "h",
        "recurrent_param { num_output: 5 "
        'weight_filler { type: "uniform" min: -0.3 max: 0.3 } }',
    )
    + layer("loss", "EuclideanLoss", "h goal")
)
NETS = {
    "small": SMALL, "dropout": DROPOUT, "norms": NORMS, "shared": SHARED,
    "stochastic": STOCHASTIC, "lstm": LSTM,
}  # fmt: skip


def make(text, *, capture=True, phase=Phase.TRAIN, plain=False):
    options = NetOptions(fuse=not plain, share_memory=not plain, capture=capture)
    return Net(parse_net(text), ops=gpu_ops(), phase=phase, seed=1, options=options)


def solver_of(text, *, capture, passes=1, rule='type: "SGD" momentum: 0.9'):
    param = make_param(f'{rule} iter_size: {passes} snapshot_prefix: "p"', text)
    options = NetOptions(fuse=True, share_memory=True, capture=capture)
    return Solver(param, ops=gpu_ops(), options=SolverOptions(net=options))


def feed(net, number, batch=None):
    """Inputs of the step ``number``, as pycaffe's users write them."""
    rng = np.random.default_rng(number)
    for name in net.input_names:
        blob = net.blobs[name]
        if batch is not None:
            blob.reshape((batch, *blob.shape[1:]))
        if name == "label":
            values = rng.integers(0, 4, blob.shape)
        elif name == "cont":
            values = np.full(blob.shape, number % 3 > 0)
        else:
            values = rng.standard_normal(blob.shape)
        blob.mutable_cpu_data[...] = values


def passed(net):
    """Loss, gradients and parameters after one pass."""
    net.clear_param_diffs()
    value = net.forward_backward()
    arrays = [blob.cpu_diff.copy() for blob in net.learnable]
    arrays += [blob.cpu_data.copy() for blob in net.params]
    arrays += [blob.cpu_data.copy() for blob in net.output_blobs]
    return [np.float64(value), *arrays]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_training(name, passes):
    solvers = [
        solver_of(NETS[name], capture=capture, passes=passes)
        for capture in (False, True)
    ]
    plain, recorded = solvers
    assert plain.net._replay is None
    losses = []
    for number in range(5):
        for solver in solvers:
            feed(solver.net, number)
        losses.append([solver.step(1) or solver.window.mean for solver in solvers])
        for one, other in zip(plain.net.params, recorded.net.params, strict=True):
            np.testing.assert_array_equal(one.cpu_data, other.cpu_data)
            np.testing.assert_array_equal(one.cpu_diff, other.cpu_diff)
    assert all(one == other for one, other in losses)
    # The first of its kind runs as always, and the next as the update took memory.
    assert replays(recorded.net) == [3] * passes


def test_dropout_draws_anew_in_every_replay():
    net = make(DROPOUT)
    feed(net, 0)
    losses = [passed(net)[0] for _ in range(6)]
    assert len(set(losses)) == 6
    assert replays(net) == [5]


def test_states_of_an_lstm_go_on():
    plain, recorded = (make(LSTM, capture=capture) for capture in (False, True))
    for number in (1, 1, 1, 1, 3, 1):
        for net in (plain, recorded):
            feed(net, number)
        assert_equal(passed(plain), passed(recorded))
    assert replays(recorded) == [5]


def test_batches_of_other_shapes():
    plain, recorded = (make(NORMS, capture=capture) for capture in (False, True))
    for number, batch in enumerate([4, 2, 4, 2, 2, 2, 4, 6, 6, 6, 6, 2, 4]):
        for net in (plain, recorded):
            feed(net, number, batch)
        assert_equal(passed(plain), passed(recorded))
        shapes = [blob.shape for blob in plain.blobs.values()]
        assert [blob.shape for blob in recorded.blobs.values()] == shapes
        # One that comes for the third time in a row has been replayed.
        assert replays(recorded) == [{4: 1, 5: 2, 8: 1, 9: 2, 10: 3}.get(number, 0)]


def test_shapes_that_other_passes_have_changed():
    """A forward of its own, between two replays, leaves other shapes behind."""
    plain, recorded = (make(SMALL, capture=capture) for capture in (False, True))
    for net in (plain, recorded):
        feed(net, 0, 4)
        for _ in range(3):
            passed(net)
        feed(net, 1, 2)
        net.forward()
        feed(net, 2, 4)
    assert_equal(passed(plain), passed(recorded))
    for name, blob in plain.blobs.items():
        assert recorded.blobs[name].shape == blob.shape


def test_the_ninth_kind_of_step():
    """Which gradients are to be overwritten is what makes kinds here."""
    plain, recorded = (make(NORMS, capture=capture) for capture in (False, True))
    for turn in range(2):
        for number in range(9):
            for net in (plain, recorded):
                feed(net, number)
                for k, blob in enumerate(net.learnable):
                    if number >> k & 1:
                        blob.clear_diff()
                net.forward_backward()
            for one, other in zip(plain.learnable, recorded.learnable, strict=True):
                np.testing.assert_array_equal(one.cpu_diff, other.cpu_diff)
        assert len(replays(recorded)) <= 8
        assert turn == 0 or sum(replays(recorded)) >= 7


def test_steps_are_recorded_again_when_memory_has_moved():
    plain, recorded = (make(SMALL, capture=capture) for capture in (False, True))

    def both(number):
        for net in (plain, recorded):
            feed(net, number)
        assert_equal(passed(plain), passed(recorded))

    for number in range(3):
        both(number)
    assert replays(recorded) == [2]
    other = make(SMALL, phase=Phase.TEST)  # which takes memory
    both(3)
    assert replays(recorded) == [0]
    both(4)
    both(5)
    assert replays(recorded) == [2]
    # Parameters of another net: nothing is allocated, and the recording is stale.
    for blob in other.learnable:
        blob.mutable_cpu_data[...] = 0.1
    for net in (plain, recorded):
        net.share_trained_layers_with(other)
    both(6)
    assert replays(recorded) == [0]
    assert (recorded.learnable[0].cpu_data == np.float32(0.1)).all()
    both(7)
    other.learnable[0].mutable_cpu_data[...] = 0.2
    both(8)
    assert (recorded.learnable[0].cpu_data == np.float32(0.2)).all()
    assert replays(recorded) == [2]


def test_memory_that_moves_in_every_step_ends_the_recording():
    net = make(SMALL)
    feed(net, 0)
    want = passed(make_like(net))
    for _ in range(12):
        gpu_ops().memory.zeros(16, np.float32)
        assert_equal(passed(net), want)
    assert net._replay.sections[0].records
    assert replays(net) == [0]


def make_like(net):
    """An unrecorded net with the same inputs."""
    other = make(SMALL, capture=False)
    feed(other, 0)
    return other


def test_what_the_host_writes_is_what_the_next_replay_reads():
    plain, recorded = (make(SMALL, capture=capture) for capture in (False, True))
    for number in range(6):
        for net in (plain, recorded):
            feed(net, number)
            weights = net.layers[1].blobs[0]
            weights.mutable_cpu_data[...] *= -0.5
            weights.mutable_cpu_data[0] = number
        assert_equal(passed(plain), passed(recorded))
        assert (recorded.layers[1].blobs[0].cpu_data[0] == number).all()
    assert replays(recorded) == [5]


def test_gradients_written_on_the_host_are_added_to():
    plain, recorded = (make(SMALL, capture=capture) for capture in (False, True))
    for number in range(4):
        for net in (plain, recorded):
            feed(net, number)
            for blob in net.learnable:
                blob.mutable_cpu_diff[...] = number
            net.forward_backward()
        for one, other in zip(plain.learnable, recorded.learnable, strict=True):
            np.testing.assert_array_equal(one.cpu_diff, other.cpu_diff)
    assert replays(recorded) == [3]


def test_who_listens_hears_every_layer():
    net = make(SMALL)
    feed(net, 0)
    for _ in range(3):
        passed(net)
    assert replays(net) == [2]
    heard = []
    net.after_forward_hooks.append(heard.append)
    net.before_backward_hooks.append(heard.append)
    want = passed(make_like(net))  # whose memory makes the recording stale
    assert_equal(passed(net), want)
    assert heard == [*range(len(net.layers)), *reversed(range(len(net.layers)))]
    net.after_forward_hooks.clear()
    net.before_backward_hooks.clear()
    for _ in range(2):
        assert_equal(passed(net), want)
    assert replays(net) == [1]


def test_debug_info_runs_layer_by_layer():
    net = make(SMALL, plain=True)
    feed(net, 0)
    for _ in range(3):
        passed(net)
    lines = []
    net.debug_info, net.debug_listener = True, lines.append
    passed(net)
    assert replays(net) == [2]
    assert any("[Forward]" in str(line) for line in lines)
    assert any("[Backward]" in str(line) for line in lines)


@pytest.mark.parametrize(
    ("kind", "bottoms", "body"),
    [
        ("ArgMax", "f", ""),
        ("Filter", "f label", ""),
        ("Python", "f", ('python_param { module: "poseidon_caffe.caffe.example_layer" '
                        'layer: "ScaleLayer" }')),
    ],
)  # fmt: skip
def test_layers_on_the_host_refuse(kind, bottoms, body):
    import poseidon_caffe.caffe  # noqa: F401 - registers Python

    net = make(SMALL + layer("x", kind, bottoms, "x", body))
    assert "x" in obstacle(net)
    assert net._replay is None
    feed(net, 0)
    passed(net)
    passed(net)


def test_a_loss_without_bottoms_refuses():
    net = make(
        SMALL
        + layer(
            "d",
            "DummyData",
            "",
            "d",
            "loss_weight: 2 dummy_data_param { "
            "shape { dim: 2 } data_filler { value: 3 } }",
        )
    )
    assert "without bottoms" in obstacle(net)
    feed(net, 0)
    losses = [net.forward_backward() for _ in range(4)]
    assert len(set(losses)) == 1
    assert losses[0] > 12


def test_what_cannot_be_recorded_runs_as_it_is():
    """As with a library that waits for the GPU where nobody expects it."""
    plain, recorded = (make(SMALL, capture=capture) for capture in (False, True))
    product = recorded.layers[recorded.layer_index("f")]
    forward = product.forward

    def looking(bottom, top):
        assert np.isfinite(bottom[0].cpu_data).all()
        forward(bottom, top)

    product.forward = looking
    for number in range(4):
        for net in (plain, recorded):
            feed(net, number)
        want = passed(plain)
        if number == 1:
            with pytest.warns(RuntimeWarning, match="steps are not recorded"):
                got = passed(recorded)
        else:
            got = passed(recorded)
        assert_equal(want, got)
    assert replays(recorded) == []


def fetched(array):
    """A device's array as a NumPy array."""
    there = np.empty(array.shape, array.dtype)
    gpu_ops().memory.download(array, there)
    return there


class Watcher:
    """An observer that takes part, as a cluster's does: all that it was told.

    Each layer's parameters are others before every forward, and gradients are read
    when they are told of, and thrown away.
    """

    def __init__(self, net):
        self.net, self.heard, self.steps = net, [], 0

    def before_forward(self, layer):
        self.heard.append(("forward", layer))
        for k, slot in enumerate(self.net.slots):
            if layer == slot.readers[0] and not slot.statistics:
                values = self.net.learnable[slot.index].mutable_cpu_data
                values[...] = values * 0.5 + 0.01 * (k - self.steps)

    def grad_ready(self, slot, event):
        event.wait()
        blob = self.net.learnable[slot.index]
        self.heard.append((slot.name, blob.diff_is_zero, blob.cpu_diff.copy()))
        factors = slot.factors()
        if factors is not None:
            self.heard.append((f"{slot.name}, factors", *map(fetched, factors)))

    def factors_ready(self, slot):
        self.heard.append((f"{slot.name}, pass", slot.factors() is not None))

    def backward_done(self):
        self.heard.append(("done", self.steps))
        self.steps += 1


def watched_pass(net, passes=1):
    """What an observer hears in a step, then its loss and the statistics."""
    net.observer.heard.clear()
    net.clear_param_diffs()
    losses = [net.forward_backward(last_pass=k == passes - 1) for k in range(passes)]
    blobs = [net.learnable[slot.index] for slot in net.slots if slot.statistics]
    return [*net.observer.heard, ("loss", *losses, *(b.cpu_data for b in blobs))]


def assert_heard_equal(ours, theirs):
    assert [each[0] for each in ours] == [each[0] for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_an_observer_hears_of_gradients_when_they_are_there(name, passes):
    nets = [make(NETS[name], capture=capture) for capture in (False, True)]
    for net in nets:
        net.observer = Watcher(net)
    for number in range(5):
        for net in nets:
            feed(net, number)
        assert_heard_equal(*(watched_pass(net, passes) for net in nets))
    sections = nets[1]._replay.sections
    assert len(sections) > 2
    assert all(count >= 3 for count in replays(nets[1]))
    # Each kind of pass has its own recording of each section that does anything.
    assert len(replays(nets[1])) == passes * sum(each.is_recorded for each in sections)


def test_who_begins_to_watch_cuts_the_step():
    plain, recorded = (make(NORMS, capture=capture) for capture in (False, True))
    for number in range(9):
        for net in (plain, recorded):
            feed(net, number)
            if number == 3:
                net.observer = Watcher(net)
            if number == 6:
                net.observer = make(SMALL).observer  # which hears nothing
        if 3 <= number < 6:
            assert_heard_equal(*(watched_pass(net) for net in (plain, recorded)))
        else:
            assert_equal(passed(plain), passed(recorded))
        assert all(count == number % 3 for count in replays(recorded) if count)
    assert replays(recorded) == [2]


class Alone:
    """A pool of one worker, who adds up on the host."""

    calls = 0

    def sum(self, values):
        self.calls += 1


@pytest.mark.parametrize("watched", [False, True])
def test_layers_that_pool_their_moments_are_not_recorded(watched):
    plain, recorded = (make(NORMS, capture=capture) for capture in (False, True))
    pools = [Alone(), Alone()]
    for net, pool in zip((plain, recorded), pools, strict=True):
        assert net.set_pool(pool) == 1
        if watched:
            net.observer = Watcher(net)
    run = watched_pass if watched else passed
    equal = assert_heard_equal if watched else assert_equal
    for number in range(5):
        for net in (plain, recorded):
            feed(net, number)
        equal(run(plain), run(recorded))
    assert pools[0].calls == pools[1].calls > 0
    sections = recorded._replay.sections
    alone = [each for each in sections if not each.is_recorded]
    layers = [i for each in alone for i in (*each.forward, *each.backward)]
    bn = recorded.layer_index("bn")
    assert [i for i in layers if recorded.layer_need_backward[i]] == [bn, bn]
    assert all(count >= 3 for count in replays(recorded))
    recorded.set_pool(None)
    plain.set_pool(None)
    equal(run(plain), run(recorded))
    assert any(bn in s.backward for s in recorded._replay.sections if s.is_recorded)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_sections_are_the_step_in_order(name, observed):
    net = make(NETS[name])
    layers = [i for i, bottoms in enumerate(net.bottom_blobs) if bottoms]
    sections = sections_of(net, layers, observed=observed)
    assert [i for each in sections for i in each.forward] == layers
    everything = [i for each in sections for i in each.backward]
    assert everything == list(reversed(range(len(net.layers))))
    assert [each.first for each in sections] == [True] + [False] * (len(sections) - 1)
    assert observed or len(sections) == 1
    # Forward ends and backward begins in the same one.
    assert sum(bool(each.forward and each.backward) for each in sections) == 1
    if observed:
        for slot in net.slots:
            assert any(
                each.backward and each.backward[-1] == slot.ready_after
                for each in sections
            )
            for user in slot.readers:
                assert any(each.forward[:1] == [user] for each in sections)
