"""The solver's update of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from poseidon_caffe.types import Array, UpdateRule, UpdateStep

__all__ = ["UpdateOps", "UpdateSegment"]


class UpdateSegment(Protocol):
    """One parameter for the one-pass update.

    Attributes:
        data, diff: C-order arrays, flat.
        history: the rule's arrays of the same size.
        local_rate: rate * lr_mult.
        decay: weight_decay * decay_mult; l1: whether it is an L1 penalty.
        scale: factor on the raw diff (clip and 1/iter_size).
    """

    data: Array
    diff: Array
    history: Sequence[Array]
    local_rate: float
    decay: float
    l1: bool
    scale: float


class UpdateOps(Protocol):
    """Solver updates: one pass over all parameters."""

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """Scale, regularise and apply ``rule`` to every segment, cache-sized pieces.

        The raw ``diff`` may be kept: nobody must rely on it afterwards.

        Raises:
            BackendError: the backend has kernels of its own, none for this rule.
        """

    def sumsq_of(self, arrays: Sequence[Array]) -> float:
        """Sum of squares over all of some flat arrays of one dtype, for clipping."""
