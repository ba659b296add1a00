from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from poseidon_caffe.net.hooks import DONE, NullObserver, ParamSlot
from tests.net.support import (
    DATA,
    SMALL,
    conv,
    fc,
    fill_inputs,
    golden_param,
    gradients,
    layer,
    loss,
    make_net,
    set_params,
    values,
)
from tests.net.test_fuse import NETS
from tests.net.test_params import autoencoder, siamese


class Recorder:
    """Notes every call, and where the net is when it comes."""

    def __init__(self, net):
        self.calls = []
        self.layer = None
        net.observer = self
        net.before_forward_hooks.append(lambda i: self.calls.append(("forward", i)))
        net.after_backward_hooks.append(lambda i: self.calls.append(("backward", i)))

    def before_forward(self, layer):
        self.calls.append(("before", layer))

    def grad_ready(self, slot, event):
        event.wait()
        self.calls.append(("ready", slot.index))

    def factors_ready(self, slot):
        self.calls.append(("factors", slot.index))

    def backward_done(self):
        self.calls.append(("done", None))

    def of(self, *kinds):
        return [number for kind, number in self.calls if kind in kinds]


def ready_layers(net, recorder):
    return [net.slots[k].ready_after for k in recorder.of("ready")]


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_net(SMALL),
        lambda: make_net(siamese()),
        lambda: make_net(NETS["residual"], fuse=True, share_memory=True),
        lambda: make_net(golden_param("cifar10_quick_train", 2)),
    ],
    ids=["small", "siamese", "residual", "cifar10_quick"],
)
def test_every_slot_is_told_once_from_the_last_layer_down(make):
    net = make()
    fill_inputs(net, 4)
    recorder = Recorder(net)
    for _ in range(2):
        recorder.calls.clear()
        net.forward_backward()
        ready = recorder.of("ready")
        assert sorted(ready) == list(range(len(net.slots)))
        order = ready_layers(net, recorder)
        assert order == sorted(order, reverse=True)
        assert recorder.of("done") == [None]
        assert recorder.calls[-1] == ("done", None)


def test_a_slot_is_told_right_after_the_backward_that_completes_it():
    net = make_net(siamese())
    fill_inputs(net, 4)
    recorder = Recorder(net)
    net.forward_backward()
    for slot in net.slots:
        at = recorder.calls.index(("ready", slot.index))
        done = [n for kind, n in recorder.calls[:at] if kind == "backward"]
        assert done[-1] == slot.ready_after == min(slot.users)


def test_values_are_waited_for_before_every_layer():
    net = make_net(SMALL)
    fill_inputs(net)
    recorder = Recorder(net)
    net.forward_backward()
    both = [call for call in recorder.calls if call[0] in {"before", "forward"}]
    wanted = [(kind, i) for i in range(5) for kind in ("before", "forward")]
    assert both == wanted


def test_only_the_last_pass_tells_of_gradients():
    """But values are waited for in each: the first of an iteration needs them."""
    net = make_net(SMALL)
    fill_inputs(net)
    recorder = Recorder(net)
    net.forward_backward(last_pass=False)
    assert recorder.of("before") == [0, 1, 2, 3, 4]
    assert not recorder.of("ready", "done")
    net.forward_backward()
    assert len(recorder.of("ready")) == 4


def test_the_earlier_passes_tell_of_factors():
    net = make_net(siamese())
    fill_inputs(net, 4)
    recorder = Recorder(net)
    net.forward_backward(last_pass=False)
    # Of shared weights too, which have a source but no factors.
    assert [net.slots[k].name for k in recorder.of("factors")] == ["head/0", "w"]
    for index in recorder.of("factors"):
        at = recorder.calls.index(("factors", index))
        done = [n for kind, n in recorder.calls[:at] if kind == "backward"]
        assert done[-1] == net.slots[index].ready_after
    recorder.calls.clear()
    net.forward_backward()
    assert not recorder.of("factors")


def test_scoring_is_not_observed():
    net = make_net(SMALL)
    fill_inputs(net)
    recorder = Recorder(net)
    net.forward()
    assert not recorder.of("before", "ready", "done")


def test_frozen_slots_are_told_of_too():
    """Whoever counts gradients in must get them all."""
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text = DATA + conv("c", "data", body=frozen) + fc("f", "c") + loss("l", "f label")
    net = make_net(text + layer("t", "Silence", "c", ""))
    fill_inputs(net)
    recorder = Recorder(net)
    net.forward_backward()
    assert sorted(recorder.of("ready")) == [0, 1, 2, 3]


def test_part_of_a_backward_tells_of_its_part():
    net = make_net(SMALL)
    fill_inputs(net)
    net.forward()
    recorder = Recorder(net)
    net.backward(start=4, end=2)
    assert recorder.of("backward") == [4, 3, 2]
    assert recorder.of("ready") == [2, 3]


def test_hooks_run_around_every_layer():
    net = make_net(SMALL)
    fill_inputs(net)
    calls = []
    for name in (
        "before_forward",
        "after_forward",
        "before_backward",
        "after_backward",
    ):
        hook = lambda i, name=name: calls.append((name, i))  # noqa: E731
        getattr(net, f"{name}_hooks").append(hook)
    net.forward(1, 2)
    assert calls == [
        ("before_forward", 1), ("after_forward", 1),
        ("before_forward", 2), ("after_forward", 2),
    ]  # fmt: skip
    net.forward(3)
    calls.clear()
    net.backward(2, 1)
    assert calls == [
        ("before_backward", 2), ("after_backward", 2),
        ("before_backward", 1), ("after_backward", 1),
    ]  # fmt: skip


def test_a_hook_may_stop_the_net():
    net = make_net(SMALL)
    fill_inputs(net)

    def stop(index):
        raise KeyboardInterrupt(index)

    net.before_forward_hooks.append(stop)
    with pytest.raises(KeyboardInterrupt):
        net.forward()


def test_the_null_observer_does_nothing():
    observer, slot = NullObserver(), make_net(SMALL).slots[0]
    observer.before_forward(0)
    observer.grad_ready(slot, DONE)
    observer.factors_ready(slot)
    observer.backward_done()


# -- what a cluster builds on ------------------------------------------------------

FILLED = 'filler { type: "uniform" min: 0.5 max: 1.5 }'
#: Every kind of parameter, and every order in which backward may read one.
ZOO = (
    DATA
    + layer("free", "Parameter", "", "free", "parameter_param { shape { dim: 8 } }")
    + conv("c1", "data", "num_output: 8 kernel_size: 3 pad: 1")
    + layer("own", "Scale", "c1 free", "c1", "scale_param { axis: 1 }")
    + conv("c2", "c1", "num_output: 16 kernel_size: 3 group: 2")
    + layer("bn", "BatchNorm", "c2", "c2")
    + layer("s", "Scale", "c2", "c2", f"scale_param {{ bias_term: true {FILLED} }}")
    + layer("p", "PReLU", "c2", "c2")
    + conv("d", "c2", "num_output: 16 kernel_size: 1 bias_term: false")
    + layer("b", "Bias", "d", "d", f"bias_param {{ {FILLED} }}")
    + layer("bn2", "BatchNorm", "d", "d", "batch_norm_param { use_global_stats: true }")
    + layer("s2", "Scale", "d", "d", f"scale_param {{ {FILLED} }}")
    + fc("f1", "d", 24, 'param { name: "w" } param { lr_mult: 0 }')
    + layer("r", "ReLU", "f1", "f1")
    + fc("f2", "f1", 24)
    + layer("r2", "ReLU", "f2", "f2")
    + layer(
        "t", "InnerProduct", "f2", None,
        "inner_product_param { num_output: 24 transpose: true "
        'weight_filler { type: "xavier" } }',
    )
    + fc("f3", "t")
    + loss("l", "f3 label")
)  # fmt: skip
FAST = {"fuse": True, "share_memory": True}
CASES = {
    "zoo": (ZOO, {}),
    "zoo, fast": (ZOO, FAST),
    "siamese": (siamese(), FAST),
    "permissive": (autoencoder(), FAST),
    "residual": (NETS["residual"], FAST),
    "inception": (NETS["inception"], FAST),
}


@pytest.fixture(params=CASES)
def make(request):
    """Makes nets of one kind, their inputs filled; options override the kind's."""
    text, given = CASES[request.param]

    def build(**options):
        net = make_net(text, **{**given, **options})
        set_sound_params(net, 3)
        fill_inputs(net, 3)
        return net

    return build


def set_sound_params(net, seed):
    """As `set_params`, but statistics as they may be: no negative variances."""
    set_params(net, seed)
    for slot in net.slots:
        if net.layers[slot.owner].has_statistics:
            blob = net.learnable[slot.index]
            blob.data[...] = np.abs(blob.data) + 0.1


class Overwriter(NullObserver):
    """Keeps each gradient when it is told of, and ruins the values right then.

    As a cluster does: by another thread, through memory it took at the start.
    """

    def __init__(self, net, value):
        self.net, self.value = net, value
        self.memory = [blob.data.reshape(-1) for blob in net.learnable]
        self.grads = {}
        net.observer = self

    def grad_ready(self, slot, event):
        event.wait()
        assert slot.index not in self.grads
        self.grads[slot.index] = self.net.learnable[slot.index].diff.copy()
        thread = threading.Thread(target=self._write, args=(slot.index,))
        thread.start()
        thread.join()

    def _write(self, index):
        self.memory[index][...] = self.value


def test_values_may_be_overwritten_once_their_slot_is_ready(make):
    plain, net = make(), make()
    observer = Overwriter(net, np.nan)
    loss_of_plain, wanted = gradients(plain)
    loss_of_net, got = gradients(net)
    assert loss_of_net == loss_of_plain
    assert any(np.any(grad) for grad in wanted)
    assert sorted(observer.grads) == list(range(len(net.slots)))
    for slot, a, b in zip(net.slots, got, wanted, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=slot.name)
        # Complete when it was told of.
        np.testing.assert_array_equal(observer.grads[slot.index], b, err_msg=slot.name)


def test_values_written_from_outside_are_seen_after_touch(make):
    """By every kernel that keeps weights in an order of its own."""
    net, other = make(), make()
    gradients(net)
    observer = Overwriter(net, 0.0)
    for seed in (5, 6):
        observer.grads.clear()
        gradients(net)
        set_sound_params(other, seed)
        for memory, value in zip(observer.memory, values(other), strict=True):
            memory[...] = value.reshape(-1)
        for blob in net.learnable:
            blob.touch()
        fresh = make()
        for blob, value in zip(fresh.learnable, values(other), strict=True):
            blob.data[...] = value
            blob.touch()
        net.observer = NullObserver()
        fresh.restore_state(net.state())
        (loss_of_net, got), (loss_of_fresh, wanted) = gradients(net), gradients(fresh)
        assert loss_of_net == loss_of_fresh
        for slot, a, b in zip(net.slots, got, wanted, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=slot.name)
        net.observer = observer


class FactorTaker(NullObserver):
    """Makes gradients from factors, pass by pass, where a slot offers them."""

    def __init__(self, net):
        self.net = net
        self.made = {}
        net.observer = self

    def grad_ready(self, slot, event):
        event.wait()
        self.factors_ready(slot)

    def factors_ready(self, slot):
        factors = slot.factors()
        if factors is None:
            return
        dy, x = (np.asarray(f, np.float64) for f in factors)
        bias = 0 if len(self.net.layers[slot.owner].blobs) == 1 else dy.sum(axis=0)
        weights, biases = self.made.get(slot.index, (0, 0))
        self.made[slot.index] = (weights + dy.T @ x, biases + bias)


@pytest.mark.parametrize("iter_size", [1, 3])
def test_factors_make_the_gradients_of_all_passes(make, iter_size):
    """Fused layers and shared memory too: they are right when they are told of."""
    plain, net = make(fuse=False, share_memory=False), make()
    taker = FactorTaker(net)
    deferred = [s for s in net.slots if s.source is not None and len(s.users) == 1]
    for slot in deferred:
        slot.source.defer_gradient = True
    before = {s.index: net.learnable[s.index].diff.copy() for s in deferred}
    for each in (plain, net):
        each.clear_param_diffs()
        rng = np.random.default_rng(8)
        for k in range(iter_size):
            for name in each.input_names:
                blob = each.blobs[name]
                if len(blob.shape) > 1:
                    blob.data[...] = rng.standard_normal(blob.shape)
            each.forward_backward(last_pass=k == iter_size - 1)
    assert sorted(taker.made) == [s.index for s in deferred]
    for slot in net.slots:
        want = plain.learnable[slot.index].diff
        got, tolerance = net.learnable[slot.index].diff, np.abs(want).max() * 1e-3
        if slot.index in taker.made:
            np.testing.assert_array_equal(got, before[slot.index])
            got = taker.made[slot.index][0]
        elif slot.index - 1 in taker.made and slot.param_index == 1:
            assert not np.any(got)
            got = taker.made[slot.index - 1][1]
            if slot.lr_mult == 0:
                continue
        np.testing.assert_allclose(
            got, want, rtol=0, atol=tolerance + 1e-6, err_msg=slot.name
        )


def test_factors_come_from_the_source_of_an_unshared_slot():
    class Source:
        def factors(self):
            return "top diff", "bottom"

    slot = ParamSlot(0, "ip/0", 1, 0, (2, 3), 1.0, 1.0, (1,), 1, Source())
    assert slot.factors() == ("top diff", "bottom")
    assert replace(slot, users=(1, 2)).factors() is None
    assert replace(slot, source=None).factors() is None
