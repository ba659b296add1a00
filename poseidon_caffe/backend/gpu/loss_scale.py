"""A dynamic loss scale that never leaves the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from poseidon_caffe.backend.gpu.launcher import ANY_STORAGE
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.gpu.update import GpuUpdate, UpdateGuard
from poseidon_caffe.backend.protocols import UpdateSegment
from poseidon_caffe.types import Array, JsonObject, UpdateRule, UpdateStep

__all__ = ["FIRST_FACTOR", "GOOD_STEPS", "DeviceLossScale", "GpuLossScale"]

FIRST_FACTOR: Final = 2.0**16
GOOD_STEPS: Final = 2000
"""So many steps without overflow in a row double the factor."""

_MOST_FACTOR = 2.0**24
_MOST_GRADIENT = 2.0**48


class DeviceLossScale:
    """`LossScale` on a GPU.

    A pass over the gradients adds up their squares, which is finite only if all of
    them are; one more launch decides, and the update's own kernel does what it says.

    Args:
        ops: the backend.
        good_steps: see `GOOD_STEPS`.
    """

    def __init__(self, ops: GpuUpdate, good_steps: int = GOOD_STEPS) -> None:
        self._ops, self._good_steps = ops, good_steps
        #: The factor, and the inverse of the one in the gradients at hand.
        self._factors = ops.memory.zeros(2, np.float32)
        #: Whether to skip this update, good steps in a row, updates skipped so far.
        self._counts = ops.memory.zeros(3, np.int32)
        self._noted = ops.memory.zeros(1, np.int32)
        self._found = ops.memory.zeros(2, np.float32)
        self._upload(FIRST_FACTOR, 0, 0)

    def _upload(self, factor: float, good: int, skipped: int) -> None:
        memory = self._ops.memory
        memory.upload(np.array([factor, 1 / factor], np.float32), self._factors)
        memory.upload(np.array([0, good, skipped], np.int32), self._counts)

    def weigh(self, diff: Array, weight: float, *, scaled: bool) -> None:
        """Every element of diff = weight, times the factor if ``scaled``."""
        factor = self._factors if scaled else None
        self._ops.kernels("loss_scale").each(
            "weigh", diff.dtype, diff.size, diff, float(weight), factor, diff.size
        )

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """The update with gradients divided by the factor, or none; see `LossScale`."""
        parts = self._ops.square_parts([segment.diff for segment in segments])
        if parts is None:
            return
        self._ops.kernels("loss_scale").blocks(
            "judge", ANY_STORAGE, 1, parts, parts.size, self._factors, self._counts,
            self._good_steps, _MOST_FACTOR,
        )  # fmt: skip
        self._ops.guard = UpdateGuard(self._factors[1:], self._counts[:1])
        try:
            self._ops.update(rule, step, segments)
        finally:
            self._ops.guard = UpdateGuard()

    def watch(self, array: Array) -> None:
        """Note whether one of the numbers, of any storage, has overflowed."""
        self._ops.kernels("loss_scale").each(
            "watch", array.dtype, array.size, array, self._noted, _MOST_GRADIENT,
            array.size,
        )  # fmt: skip

    def report(self) -> Array:
        """(factor, 1 if something was noted), on the device until the next call."""
        self._ops.kernels("loss_scale").blocks(
            "report", ANY_STORAGE, 1, self._factors, self._noted, self._found
        )
        return self._found

    def follow(self, used: float, *, overflowed: bool) -> None:
        """Let the factor follow what all workers found; see `LossScale`."""
        self._ops.kernels("loss_scale").blocks(
            "follow", ANY_STORAGE, 1, self._factors, self._counts, int(overflowed),
            used, self._good_steps, _MOST_FACTOR,
        )  # fmt: skip

    def factor(self) -> float:
        """The present factor; waits for the work before."""
        factors = np.empty(2, np.float32)
        self._ops.memory.download(self._factors, factors)
        return float(factors[0])

    def state(self) -> JsonObject:
        """Factor, good steps in a row, and updates skipped so far."""
        counts = np.empty(3, np.int32)
        self._ops.memory.download(self._counts, counts)
        return {
            "factor": self.factor(),
            "good": int(counts[1]),
            "skipped": int(counts[2]),
        }

    def restore_state(self, state: JsonObject) -> None:
        """Take back what `state` gave."""
        factor = float(state["factor"])
        self._upload(factor, int(state["good"]), int(state["skipped"]))


class GpuLossScale(GpuUpdate):
    """`LossScaleOps` on a GPU."""

    settings: GpuSettings

    def loss_scale(self) -> DeviceLossScale | None:
        """One for float16, whose exponents are few; bfloat16 has float32's."""
        return DeviceLossScale(self) if self.settings.precision == "fp16" else None
