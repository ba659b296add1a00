from __future__ import annotations

from dataclasses import replace

import pytest

from poseidon_caffe.net.hooks import DONE, NullObserver, ParamSlot
from tests.net.support import (
    DATA,
    SMALL,
    conv,
    fc,
    fill_inputs,
    golden_param,
    layer,
    loss,
    make_net,
)
from tests.net.test_fuse import NETS
from tests.net.test_params import siamese


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
    observer.backward_done()


def test_factors_come_from_the_source_of_an_unshared_slot():
    class Source:
        def factors(self):
            return "top diff", "bottom"

    slot = ParamSlot(0, "ip/0", 1, 0, (2, 3), 1.0, 1.0, (1,), 1, Source())
    assert slot.factors() == ("top diff", "bottom")
    assert replace(slot, users=(1, 2)).factors() is None
    assert replace(slot, source=None).factors() is None
