"""One solver step over all parameters: clip, normalise, regularise, apply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import UpdateSegment
from poseidon_caffe.errors import SolverError
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.net.net import Net
from poseidon_caffe.solver.events import DebugLine, Event, GradientsClipped
from poseidon_caffe.solver.history import History
from poseidon_caffe.types import Array, GradientSync, UpdateRule, UpdateStep

__all__ = ["Segment", "Updater", "check_update_settings", "segment_of"]


@dataclass(slots=True)
class Segment:
    """One parameter for `UpdateOps.update`; see `UpdateSegment` for the fields."""

    data: Array
    diff: Array
    history: Sequence[Array]
    local_rate: float
    decay: float
    l1: bool
    scale: float


def segment_of(
    param: Any,
    slot: ParamSlot,
    rate: float,
    scale: float,
    arrays: tuple[Array, Array, Sequence[Array]],
) -> Segment:
    """What is updated as ``slot`` wants: it, its whole group or a piece of it.

    Args:
        param: the SolverParameter.
        slot: whose multipliers apply.
        rate: global learning rate of the iteration.
        scale: factor on the raw gradient.
        arrays: values, gradient, and the rule's history; flat, of one size.
    """
    data, diff, history = arrays
    return Segment(
        data=data,
        diff=diff,
        history=history,
        local_rate=rate * slot.lr_mult,
        decay=param.weight_decay * slot.decay_mult,
        l1=param.regularization_type == "L1",
        scale=scale,
    )


def check_update_settings(param: Any) -> None:
    """Raise SolverError for regularisation or ``iter_size`` that make no sense."""
    if param.regularization_type not in {"L1", "L2"}:
        msg = (
            f'regularization_type: "{param.regularization_type}" is unknown '
            "(known: L1, L2)"
        )
        raise SolverError(msg)
    for name in ("iter_size", "average_loss"):
        if getattr(param, name) < 1:
            msg = f"{name}: {getattr(param, name)} must be at least 1"
            raise SolverError(msg)


class Updater:
    """Applies a rule to the parameters of a net, Caffe's order of steps.

    Args:
        param: the SolverParameter.
        net: the train net, its gradients summed over ``iter_size`` passes.
        rule: applied to every slot that ``sync`` leaves to this process.
        history: the rule's arrays.
        emit: takes events.
    """

    def __init__(
        self,
        param: Any,
        net: Net,
        rule: UpdateRule,
        history: History,
        emit: Callable[[Event], None],
    ) -> None:
        self._param = param
        self._net = net
        self._rule = rule
        self._history = history
        self._emit = emit
        self.refresh()

    @cached_property
    def _group_history(self) -> list[list[Array]]:
        """Each group's history; nothing is moved where a cluster updates it all."""
        return [self._history.gather(group.slots) for group in self._net.groups]

    def refresh(self) -> None:
        """Find out again which parameters never move; after a resume."""
        # With lr_mult 0 the rules leave values alone, unless old momentum is left.
        self._frozen = [
            slot.lr_mult == 0 and self._history.is_zero(slot.index)
            for slot in self._net.slots
        ]

    def is_frozen(self, slot: int) -> bool:
        """Whether no rule moves this parameter, so that it need not travel."""
        return self._frozen[slot]

    def apply(self, step: UpdateStep, sync: GradientSync, *, debug: bool) -> None:
        """Update all parameters from their gradients, which are used up.

        What a cluster updates is left alone, and where that is everything there is
        nothing to do: it clips by itself, with the norm over all workers.
        """
        own = [slot for slot in self._net.slots if sync.updates_locally(slot.index)]
        if not own:
            return
        scale = self._clip_scale(step, sync) / self._param.iter_size
        moving = [slot for slot in own if not self._frozen[slot.index]]
        for slot in moving:
            sync.wait(slot.index)
        learnable = self._net.learnable
        before = [learnable[slot.index].cpu_data.copy() for slot in moving if debug]
        updates = self._net.loss_scale or self._net.ops
        updates.update(self._rule, step, self._segments_of(moving, step, scale))
        for slot in moving:
            self._net.learnable[slot.index].touch()
        if debug:
            self._say_updates(moving, before)

    def _segments_of(
        self, moving: Sequence[ParamSlot], step: UpdateStep, scale: float
    ) -> list[UpdateSegment]:
        """One segment a group whose slots all move, one a slot for the others."""
        left = {slot.index: slot for slot in moving}
        segments: list[UpdateSegment] = []
        for group, history in zip(self._net.groups, self._group_history, strict=True):
            if not all(slot.index in left for slot in group.slots):
                continue
            for slot in group.slots:
                del left[slot.index]
                self._ready(slot.index)
            first, arrays = group.slots[0], (group.data, group.diff, history)
            segments.append(segment_of(self._param, first, step.rate, scale, arrays))
        for slot in left.values():
            blob, own = self._net.learnable[slot.index], self._history.of(slot.index)
            flat = (blob.data.reshape(-1), blob.diff.reshape(-1), own)
            segments.append(segment_of(self._param, slot, step.rate, scale, flat))
        return segments

    def _ready(self, slot: int) -> None:
        """Let the update see what the host wrote, and zeros that nobody has written."""
        blob = self._net.learnable[slot]
        _ = blob.data, blob.diff
        self._history.to_device(slot)

    def _clip_scale(self, step: UpdateStep, sync: GradientSync) -> float:
        """The factor that brings the gradients' norm down to the limit, or 1."""
        limit = float(self._param.clip_gradients)
        if limit < 0:
            return 1.0
        norm = self._gradient_norm(sync)
        scaling = self._net.loss_scale
        if scaling is not None:
            norm /= scaling.factor()
        if norm <= limit or (scaling is not None and not math.isfinite(norm)):
            # A scaled norm may overflow: the step is skipped then.
            return 1.0
        scale = limit / norm
        self._emit(GradientsClipped(step.iteration, norm, limit, scale))
        return scale

    def _gradient_norm(self, sync: GradientSync) -> float:
        """L2 norm over all gradients, each parameter once."""
        found = []
        # Frozen parameters have gradients too where backward is forced, and count.
        forced = bool(self._net.param.force_backward)
        for slot in self._net.slots:
            if slot.lr_mult != 0 or forced:
                sync.wait(slot.index)
                found.append(self._net.learnable[slot.index].diff.reshape(-1))
        return math.sqrt(self._net.ops.sumsq_of(found))

    def _say_updates(self, slots: list[ParamSlot], before: list[Array]) -> None:
        """Caffe's ``[Update]`` lines: mean sizes of the values and of their change."""
        net = self._net
        for slot, old in zip(slots, before, strict=True):
            blob: Blob = net.learnable[slot.index]
            count = max(blob.count, 1)
            data = net.ops.host.asum(old) / count
            change = net.ops.host.asum(old - blob.cpu_data) / count
            text = (
                f"    [Update] Layer {net.layer_names[slot.owner]}, "
                f"param {_display_name(slot)} data: {data:g}; diff: {change:g}"
            )
            self._emit(DebugLine(text))


def _display_name(slot: ParamSlot) -> str:
    """The shared name, or the index within the layer."""
    _, _, last = slot.name.rpartition("/")
    return last if last == str(slot.param_index) else slot.name
