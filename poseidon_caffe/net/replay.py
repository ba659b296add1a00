"""Forward and backward of a net recorded once, then started by few calls a step.

A GPU does a small layer in less time than Python needs to ask for it.  So the training
step is recorded as CUDA graphs where it is the same each time: layers without bottoms
(data) run as always, the others are replayed as long as shapes and memory stay.  In one
process that is one graph.  In a cluster it is one for each section of the step between
two points at which the observer must be told something or may have to wait.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poseidon_caffe.backend.protocols import Replay
from poseidon_caffe.errors import BackendError
from poseidon_caffe.net.hooks import NullObserver
from poseidon_caffe.types import Shape

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["Section", "StepReplay", "obstacle", "sections_of"]

_MOST_RECORDS = 8
"""Kinds of steps that a section keeps recorded; further ones run as they are."""


@dataclass(frozen=True)
class _Kind:
    """What a recording may be used for.

    Attributes:
        shapes: of the blobs that data layers fill.
        zeros: which gradients of the section are to be overwritten, not added to.
        last_pass: whether it is the last of ``iter_size`` passes.
    """

    shapes: tuple[Shape, ...]
    zeros: tuple[bool, ...]
    last_pass: bool


@dataclass
class _Record:
    """A section that ran, and once it ran again, with nothing moved, its recording.

    Attributes:
        replay: the recording.
        zeros_after: the flags of `_Kind.zeros` after the section.
        runs: how often it was replayed.
    """

    replay: Replay | None = None
    zeros_after: tuple[bool, ...] = ()
    runs: int = 0


def obstacle(net: Net) -> str | None:
    """Why the net's steps cannot be recorded; None if they can."""
    if not net.ops.captures:
        return "the backend records nothing"
    for layer, bottoms in zip(net.layers, net.bottom_blobs, strict=True):
        if not bottoms and any(layer.loss_weights):
            return f"layer {layer.name} ({layer.type}) is a loss without bottoms"
        if layer.runs_user_code or (layer.works_on_host and bottoms):
            return f"layer {layer.name} ({layer.type}) works on the host"
    return None


@dataclass
class Section:
    """A part of a step with nobody to tell, or to wait for, in its middle.

    Attributes:
        forward: indices of the layers that run forward, ascending.
        backward: and then backward, descending.
        first: whether the step begins with it.
        is_recorded: it may be; what it does on the host is the same each time.
        records: what was recorded of it.
    """

    forward: list[int] = field(default_factory=list)
    backward: list[int] = field(default_factory=list)
    first: bool = False
    is_recorded: bool = True
    records: dict[_Kind, _Record] = field(default_factory=dict)

    def work(self, net: Net) -> None:
        """Do it, layer by layer."""
        if self.first:
            net.clear_loss()
        net.run_forward(self.forward)
        net.run_backward(self.backward)


def sections_of(net: Net, layers: Sequence[int], *, observed: bool) -> list[Section]:
    """The parts of a step, in order; together they are all of it.

    Args:
        net: whose step it is.
        layers: that run forward in it, ascending; all run backward.
        observed: whether it is cut where an observer is told of parameters.
    """
    alone = net.pooled
    waits = {i for slot in net.slots for i in slot.readers} if observed else set()
    tells = {slot.ready_after for slot in net.slots} if observed else set()
    found = [Section(first=True)]
    for i in layers:
        if i in alone or i in waits or not found[-1].is_recorded:
            found.append(Section(is_recorded=i not in alone))
        found[-1].forward.append(i)
    for i in reversed(range(len(net.layers))):
        last = found[-1]
        told = last.backward and last.backward[-1] in tells
        if i in alone or told or not last.is_recorded:
            found.append(Section(is_recorded=i not in alone))
        found[-1].backward.append(i)
    for part in found:
        # A graph of nothing, or of one clearing, gains nothing.
        if not part.forward and not any(
            net.layer_need_backward[i] for i in part.backward
        ):
            part.is_recorded = False
    return found


class StepReplay:
    """Does a net's steps, recorded where that is possible.

    Args:
        net: that has no `obstacle`.

    Attributes:
        sections: of the steps that are done now.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._sources = [i for i, bottom in enumerate(net.bottom_blobs) if not bottom]
        self._rest = [i for i, bottom in enumerate(net.bottom_blobs) if bottom]
        self._is_able = True
        self._cut: tuple[bool, frozenset[int]] | None = None
        self._state = _state(net)
        self.sections: list[Section] = []
        self._slots: list[list[int]] = []

    def can_run(self) -> bool:
        """Whether that can be done, and nobody needs to be told of layers now."""
        net = self._net
        hooks = (
            net.before_forward_hooks, net.after_forward_hooks,
            net.before_backward_hooks, net.after_backward_hooks,
        )  # fmt: skip
        return self._is_able and not (net.debug_info or any(hooks))

    def run(self, *, last_pass: bool) -> None:
        """Do one step.

        Args:
            last_pass: of ``iter_size``.
        """
        net = self._net
        self._follow()
        net.run_forward(self._sources, observed=True)
        shapes, fresh = self._shapes(), []
        for section, slots in zip(self.sections, self._slots, strict=True):
            for i in section.forward:
                net.observer.before_forward(i)
            kind = _Kind(shapes, self._zeros(slots), last_pass)
            if not self._run(section, kind, slots):
                fresh.append((section, kind))
            for i in section.backward:
                net.tell_ready(i, last_pass=last_pass)
        if last_pass:
            net.observer.backward_done()
        self._settle(fresh)

    def _settle(self, fresh: list[tuple[Section, _Kind]]) -> None:
        """Remember the sections that ran, and forget what can no longer be replayed.

        When something moves all begin anew together: what a layer's Python code
        leaves in forward and backward must be of the same step.
        """
        state = _state(self._net)
        if state != self._state:
            self._state = state
            self._forget()
            if len(fresh) < sum(each.is_recorded for each in self.sections):
                return
        for section, kind in fresh:
            if len(section.records) < _MOST_RECORDS:
                section.records[kind] = _Record()

    def _forget(self) -> None:
        for section in self.sections:
            section.records = {}

    def _follow(self) -> None:
        """Cut the step anew when somebody else watches, or pools moments."""
        net = self._net
        cut = not isinstance(net.observer, NullObserver), net.pooled
        if cut == self._cut:
            return
        self._cut = cut
        self.sections = sections_of(net, self._rest, observed=cut[0])
        self._slots = [
            [s.index for s in net.slots if {*part.backward} & {*s.users, s.ready_after}]
            for part in self.sections
        ]

    def _run(self, section: Section, kind: _Kind, slots: list[int]) -> bool:
        """Do a section; whether by a recording, or if it never has one."""
        net = self._net
        if not (section.is_recorded and self._is_able):
            section.work(net)
            return True
        record = section.records.get(kind)
        if record is None or self._state != _state(net):
            section.work(net)
            return False
        if record.replay is None and not self._record(section, record, kind, slots):
            section.work(net)
            return True
        assert record.replay is not None
        record.replay.run()
        record.runs += 1
        self._set_zeros(slots, record.zeros_after)
        return True

    def _record(
        self, section: Section, record: _Record, kind: _Kind, slots: list[int]
    ) -> bool:
        """Record a section; False where the backend cannot, and never will."""
        net = self._net
        try:
            record.replay = net.ops.capture(lambda: section.work(net))
        except BackendError as error:
            message = f"steps are not recorded, and so start more slowly: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._is_able = False
            self._forget()
            self._set_zeros(slots, kind.zeros)
            return False
        record.zeros_after = self._zeros(slots)
        return True

    def _shapes(self) -> tuple[Shape, ...]:
        net = self._net
        return tuple(blob.shape for i in self._sources for blob in net.top_blobs[i])

    def _zeros(self, slots: list[int]) -> tuple[bool, ...]:
        return tuple(self._net.learnable[slot].diff_is_zero for slot in slots)

    def _set_zeros(self, slots: list[int], zeros: tuple[bool, ...]) -> None:
        for slot, zero in zip(slots, zeros, strict=True):
            self._net.learnable[slot].diff_is_zero = zero


def _state(net: Net) -> tuple[int, int]:
    """Counts that change when memory moves or a layer sees other shapes.

    They never come back, so what was recorded before is of no use then: its arrays may
    be others' by now, and layers may have made new ones.
    """
    return net.ops.memory.allocations, net.reshapes
