"""Events are immutable records that listeners can rely on."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from poseidon_caffe.solver import events
from tests.solver.support import Recorder, feed, make_solver

KINDS = [
    kind
    for _, kind in inspect.getmembers(events, inspect.isclass)
    if issubclass(kind, events.Event)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_frozen_documented_and_exported(kind):
    assert kind.__dataclass_params__.frozen
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    assert kind.__name__ in events.__all__


def test_events_cannot_be_changed():
    event = events.FinalLoss(3, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.loss = 1.0


def test_every_listener_hears_everything_in_order():
    first, second, late = Recorder(), Recorder(), Recorder()
    solver = make_solver("display: 1", events=[first, second])
    solver.listeners.append(late)
    feed(solver)
    solver.step(2)
    assert first.events == second.events
    assert late.events == first.events[-len(late.events) :]
    assert late.names()[0] == "IterationDisplayed"
