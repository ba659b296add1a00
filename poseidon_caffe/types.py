"""Names shared by every room of the house: arrays, shapes, phases, Protocols."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "GradientSync",
    "JsonObject",
    "Phase",
    "RowPiece",
    "RowUpdater",
    "RuleKernel",
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
    """Which of ``world`` workers this one is; one process is rank 0 of 1.

    Attributes:
        rank: number of this worker.
        world: how many there are.
        by_batch: whole batches are dealt, as in tests, not the records of one batch.
    """

    rank: int = 0
    world: int = 1
    by_batch: bool = False


@dataclass(frozen=True)
class UpdateStep:
    """What one solver step needs to know, the same for every parameter.

    Attributes:
        rate: global learning rate of this iteration, before ``lr_mult``.
        iteration: 0-based iteration (Adam's bias correction uses it).
    """

    rate: float
    iteration: int


@dataclass(frozen=True)
class RuleKernel:
    """A rule as backends know it whose kernels are no Python functions.

    Attributes:
        name: of the formula: "sgd", "nesterov", "adagrad", "rmsprop", "adadelta" or
            "adam".
        constants: its numbers at one step, in the order of the class's arguments;
            Adam's correction comes last.
    """

    name: str
    constants: tuple[float, ...]


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

    def kernel(self, step: UpdateStep) -> RuleKernel | None:
        """The same rule for a backend with kernels of its own, None if there is none.

        Without it (or without this method) the rule runs on CPUs only.
        """


@dataclass(frozen=True)
class RowPiece:
    """A stretch of one parameter with what its update needs, all flat, one size.

    Attributes:
        slot: index of the parameter.
        data: values, updated in place.
        diff: the gradient's sum, which may be overwritten.
        history: the rule's arrays.
    """

    slot: int
    data: Array
    diff: Array
    history: tuple[Array, ...]


class RowUpdater(Protocol):
    """A solver's update of any stretch of its parameters, for whoever owns it.

    Attributes:
        history_count: history arrays per parameter.
    """

    history_count: int

    def history_of(self, slot: int) -> tuple[Array, ...]:
        """The solver's own history arrays of one parameter: flat, live."""

    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        """Apply the rule of ``iteration`` once, as a single process would.

        ``diff * scale`` is the gradient before regularisation: ``scale`` holds the
        averaging over workers, ``iter_size`` and clipping.  One thread at a time,
        not always the same one.
        """


class GradientSync(Protocol):
    """Where gradients meet: no work in one process, a cluster otherwise.

    The solver calls all of these from its own thread, in the same order on every
    worker.
    """

    def wait(self, slot: int) -> None:
        """Return once the slot holds every update of the iterations so far."""

    def updates_locally(self, slot: int) -> bool:
        """Whether the solver applies its rule to this slot in this process."""

    def average(self, values: Array, then: Callable[[Array], None]) -> None:
        """Call ``then`` with the mean of the workers' ``values`` (float64).

        On rank 0, now or (with staleness) in a later call of any method here; other
        ranks get their own values back at once.
        """

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of ``count`` arrays of which worker r of N has the r-th, (r+N)-th...

        Added in that order, so that N workers give one process's result.  The same
        on every worker.
        """

    def agree(self, requests: int) -> int:
        """The workers' requests (bits) of an earlier iteration, or-ed; same for all.

        Called once at the end of each iteration.
        """

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """Every worker's ``item`` in rank order on rank 0; None elsewhere."""

    def collect_history(self) -> None:
        """Bring the whole solver history to rank 0; called before it is written."""


def fnv1a(text: str) -> int:
    """64-bit FNV-1a hash of ``text``: stable over runs, unlike ``hash``."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def is_float(array: Array) -> bool:
    """Whether ``array`` holds floating point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))
