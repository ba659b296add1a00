"""Forward and backward of a net recorded once, then started by one call a step.

A GPU does a small layer in less time than Python needs to ask for it.  So the training
step is recorded as a CUDA graph where it is the same each time: layers without bottoms
(data) run as always, the others are replayed as long as shapes and memory stay.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poseidon_caffe.backend.protocols import Replay
from poseidon_caffe.errors import BackendError
from poseidon_caffe.net.hooks import NullObserver
from poseidon_caffe.types import Shape

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["StepReplay", "obstacle"]

_MOST_RECORDS = 8
"""Kinds of steps that are recorded at a time; further ones run as they are."""


@dataclass(frozen=True)
class _Kind:
    """What one recorded step may be used for.

    Attributes:
        shapes: of the blobs that data layers fill.
        zeros: which parameters' gradients are to be overwritten, not added to.
        last_pass: whether it is the last of ``iter_size`` passes.
    """

    shapes: tuple[Shape, ...]
    zeros: tuple[bool, ...]
    last_pass: bool


@dataclass
class _Record:
    """A step that has run, and once it ran again, with nothing moved, its recording.

    Attributes:
        state: of `StepReplay` when it ran.
        replay: the recording.
        zeros_after: the flags of `_Kind.zeros` after the step.
        runs: how often it was replayed.
    """

    state: tuple[int, int]
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


class StepReplay:
    """Does a net's steps, recorded where that is possible.

    Args:
        net: that has no `obstacle`.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._sources = [i for i, bottom in enumerate(net.bottom_blobs) if not bottom]
        self._rest = [i for i, bottom in enumerate(net.bottom_blobs) if bottom]
        self._records: dict[_Kind, _Record] = {}
        self._is_able = True

    def can_run(self) -> bool:
        """Whether that can be done, and nobody needs to be told of layers now."""
        net = self._net
        hooks = (
            net.before_forward_hooks, net.after_forward_hooks,
            net.before_backward_hooks, net.after_backward_hooks,
        )  # fmt: skip
        watched = not isinstance(net.observer, NullObserver) or net.pool is not None
        return self._is_able and not (net.debug_info or watched or any(hooks))

    def run(self, work: Callable[[list[int]], None], *, last_pass: bool) -> None:
        """Do one step.

        Args:
            work: forward of the layers with these indices, and the whole backward.
            last_pass: of ``iter_size``.
        """
        net = self._net
        net.run_forward(self._sources)
        kind = _Kind(self._shapes(), self._zeros(), last_pass)
        record = self._records.get(kind)
        if record is None or record.state != self._state():
            work(self._rest)
            self._note(kind)
            return
        if record.replay is None and not self._record(record, kind, work):
            work(self._rest)
            return
        assert record.replay is not None
        record.replay.run()
        record.runs += 1
        self._set_zeros(record.zeros_after)

    def _record(
        self, record: _Record, kind: _Kind, work: Callable[[list[int]], None]
    ) -> bool:
        """Record a step; False where the backend cannot, which ends all recording."""
        try:
            record.replay = self._net.ops.capture(lambda: work(self._rest))
        except BackendError as error:
            message = f"steps are not recorded, and so start more slowly: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._is_able, self._records = False, {}
            self._set_zeros(kind.zeros)
            return False
        record.zeros_after = self._zeros()
        return True

    def _state(self) -> tuple[int, int]:
        """Counts that change when memory moves or a layer sees other shapes.

        They never come back, so what was recorded before is of no use then: its
        arrays may be others' by now, and layers may have made new ones.
        """
        return self._net.ops.memory.allocations, self._net.reshapes

    def _note(self, kind: _Kind) -> None:
        """Remember that a step has run, and forget what can no longer be replayed."""
        state = self._state()
        kept = {k: r for k, r in self._records.items() if r.state == state}
        if len(kept) < _MOST_RECORDS:
            kept[kind] = _Record(state)
        self._records = kept

    def _shapes(self) -> tuple[Shape, ...]:
        net = self._net
        return tuple(blob.shape for i in self._sources for blob in net.top_blobs[i])

    def _zeros(self) -> tuple[bool, ...]:
        return tuple(blob.diff_is_zero for blob in self._net.learnable)

    def _set_zeros(self, zeros: tuple[bool, ...]) -> None:
        for blob, zero in zip(self._net.learnable, zeros, strict=True):
            blob.diff_is_zero = zero
