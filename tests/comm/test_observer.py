"""What the net's progress sets in motion, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poseidon_caffe.comm.observer import ClusterObserver
from poseidon_caffe.comm.rows import Piece, Row
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.net.hooks import DONE
from tests.comm.support import Tiny


class Log:
    """Client, factors and gate at once: notes what they are asked to do."""

    def __init__(self, rows, by_factors=()):
        self.rows, self.by_factors, self.seen = rows, by_factors, []

    def __contains__(self, slot):
        return slot in self.by_factors

    def push(self, what):
        name = what if isinstance(what, int) else what.name
        self.seen.append(("push", name))

    def send(self, slot):
        self.seen.append(("send", slot.name))

    def rows_of(self, slot):
        return [r.index for r in self.rows if slot in {p.slot for p in r.pieces}]

    def enter(self, slot, version, iteration):
        self.seen.append(("enter", slot, version, iteration))

    def take(self):
        seen, self.seen = self.seen, []
        return seen


def row(index, *slots):
    return Row(index, 0, tuple(Piece(s, 0, 1) for s in slots), 0, False, "float64")


#: Two layers: slots 0, 1 of the first; 2, 3 of the second; row 1 holds 3 slots.
ROWS = (row(0, 3), row(1, 2, 1, 0), row(2, 0))


def make(log, iteration=10, **settings):
    beats = []
    model = Tiny(widths=(4, 3, 2)).model(iteration=iteration)
    observer = ClusterObserver(
        model, log.rows, log, log, log, ClusterSettings(**settings),
        lambda i, layer: beats.append((i, layer)),
    )  # fmt: skip
    return observer, model.slots, beats


def test_a_row_leaves_when_its_last_slot_is_ready():
    log = Log(ROWS)
    observer, slots, _ = make(log)
    for _ in range(2):
        for slot, pushed in ((2, []), (3, [0]), (0, [2]), (1, [1])):
            observer.grad_ready(slots[slot], DONE)
            assert log.take() == [("push", index) for index in pushed]
        observer.backward_done()


def test_a_gradient_is_not_sent_before_it_is_computed():
    log = Log(ROWS)
    observer, slots, _ = make(log)

    class Late:
        def wait(self):
            log.seen.append("computed")

    observer.grad_ready(slots[3], Late())
    assert log.take() == ["computed", ("push", 0)]


def test_a_layer_waits_for_all_its_slots():
    log = Log(ROWS)
    observer, *_ = make(log)
    observer.before_forward(0)
    assert log.take() == [("enter", 0, 10, 10), ("enter", 1, 10, 10)]
    observer.before_forward(2)
    assert log.take() == [], "a layer without parameters"
    observer.backward_done()
    observer.before_forward(1)
    assert log.take() == [("enter", 2, 11, 11), ("enter", 3, 11, 11)]


def test_who_does_another_layers_work_waits_for_its_slots():
    log = Log(ROWS)
    model = Tiny(widths=(4, 3, 2)).model()
    slots = [replace(s, fused_into=0) if s.index > 1 else s for s in model.slots]
    observer = ClusterObserver(
        replace(model, slots=slots), ROWS, log, log, log, ClusterSettings(),
        lambda i, layer: None,
    )  # fmt: skip
    observer.before_forward(0)
    assert [entered[1] for entered in log.take()] == [0, 1, 2, 3]


def test_staleness_asks_for_older_values_but_none_from_before_the_start():
    log = Log(ROWS)
    observer, *_ = make(log, staleness=2)
    needed = []
    for _ in range(5):
        observer.before_forward(0)
        needed.append(log.take()[0][1:])
        observer.backward_done()
    assert needed == [(0, 10, 10), (0, 10, 11), (0, 10, 12), (0, 11, 13), (0, 12, 14)]


def test_without_overlap_all_is_sent_and_awaited_at_the_end():
    log = Log(ROWS, by_factors={2, 3})
    observer, slots, _ = make(log, overlap=False)
    for slot in (2, 3):
        observer.grad_ready(slots[slot], DONE)
    assert log.take() == [("push", "ip1/0"), ("push", "ip1/1")], "kept, not sent"
    log.rows = (row(0, 0), row(1, 0, 1))
    observer, slots, _ = make(log, overlap=False)
    for slot in (0, 1):
        observer.grad_ready(slots[slot], DONE)
    assert log.take() == []
    for _ in range(2):
        observer.backward_done()
        seen = log.take()
    assert seen == [("enter", slot, 12, 12) for slot in range(4)], "held no longer"


def test_factors_of_every_pass_are_kept_and_sent_with_the_last():
    log = Log(ROWS, by_factors={2, 3})
    observer, slots, _ = make(log)
    observer.factors_ready(slots[2])
    observer.factors_ready(slots[0])
    assert log.take() == [("push", "ip1/0")], "only of slots that travel so"
    observer.grad_ready(slots[2], DONE)
    assert log.take() == [("push", "ip1/0"), ("send", "ip1/0")]


@pytest.mark.parametrize("overlap", [True, False])
def test_signs_of_life(overlap):
    log = Log(ROWS)
    observer, slots, beats = make(log, overlap=overlap)
    observer.before_forward(0)
    observer.grad_ready(slots[2], DONE)
    observer.backward_done()
    observer.before_forward(1)
    assert beats == [(10, 0), (10, 1), (11, 1)]
