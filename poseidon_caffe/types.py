"""Names shared by every room of the house: arrays, shapes, phases, Protocols."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "GradientSync",
    "JsonObject",
    "Phase",
    "Shape",
    "Shard",
    "UpdateRule",
    "UpdateStep",
    "fnv1a",
]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
JsonObject: TypeAlias = dict[str, Any]


class Phase(enum.IntEnum):
    """What a net is built for; values are Caffe's."""

    TRAIN = 0
    TEST = 1


@dataclass(frozen=True)
class Shard:
    """Which of ``world`` workers this one is; one process is rank 0 of 1."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class UpdateStep:
    """What one solver step needs to know, the same for every parameter.

    Attributes:
        rate: global learning rate of this iteration, before ``lr_mult``.
        iteration: 0-based iteration (Adam's bias correction uses it).
    """

    rate: float
    iteration: int


class UpdateRule(Protocol):
    """A solver's update of one parameter, elementwise, so it may run on any slice.

    Attributes:
        history_count: history arrays per parameter (SGD 1, AdaDelta 2, Adam 2).
        heavy_ball: the momentum m when the rule is exactly h = m h + r g; w -= h,
            which backends have a faster way for; None for any other rule.
    """

    history_count: int
    heavy_ball: float | None

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update ``data`` and ``history`` in place from the ready gradient.

        ``diff`` is clipped, normalised and regularised already and may be
        overwritten.  All arrays have one shape.
        """


class GradientSync(Protocol):
    """Where gradients meet: no work in one process, a cluster otherwise."""

    def wait(self, slot: int) -> None:
        """Return once the values of parameter slot ``slot`` may be read."""

    def updates_locally(self, slot: int) -> bool:
        """Whether the solver applies its rule to this slot in this process."""


def fnv1a(text: str) -> int:
    """64-bit FNV-1a hash of ``text``: stable over runs, unlike ``hash``."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def is_float(array: Array) -> bool:
    """Whether ``array`` holds floating point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))
