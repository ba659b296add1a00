"""The solver's history: one flat array per parameter and rule quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Buffer
from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.net.param_groups import place_group
from poseidon_caffe.types import Array, Shape

__all__ = ["History"]


class History:
    """Zero at first; laid out as in Caffe's solverstate.

    All parameters' first quantity, then all parameters' second one (AdaDelta's
    averages of squared updates, Adam's second moments).

    Args:
        slots: the net's learnable parameters.
        count: quantities per parameter, `UpdateRule.history_count`.
        dtype: the net's floating type.

    Attributes:
        shapes: parameter shape of each array, in file order.
    """

    def __init__(
        self, slots: Sequence[ParamSlot], count: int, dtype: np.dtype | type
    ) -> None:
        self._dtype = dtype
        self._names = [slot.name for slot in slots] * count
        self.shapes: list[Shape] = [slot.shape for slot in slots] * count
        self._arrays: list[Array] = [
            Buffer(dtype).view((math.prod(shape),), channels_last=False)
            for shape in self.shapes
        ]
        total = len(slots)
        self._per_slot = [tuple(self._arrays[i::total]) for i in range(total)]

    def gather(self, slots: Sequence[ParamSlot]) -> list[Array]:
        """Move these parameters' arrays side by side; one flat array a quantity.

        They lie as `net.param_groups.place_group` says.
        """
        places, total = place_group(slots)
        whole = []
        for quantity in range(len(self._arrays) // max(len(self._per_slot), 1)):
            memory = Buffer(self._dtype).view((total,), channels_last=False)
            for slot, place in zip(slots, places, strict=True):
                i = quantity * len(self._per_slot) + slot.index
                if self._arrays[i].any():
                    # Zeros need no copy; pages that nobody writes cost no memory,
                    # which is what a cluster's sharded history lives on.
                    memory[place] = self._arrays[i]
                self._arrays[i] = memory[place]
            whole.append(memory)
        count = len(self._per_slot)
        self._per_slot = [tuple(self._arrays[i::count]) for i in range(count)]
        return whole

    def of(self, slot: int) -> tuple[Array, ...]:
        """The flat arrays of one parameter, one per quantity, live."""
        return self._per_slot[slot]

    def shaped(self) -> list[Array]:
        """Every array seen in its parameter's shape, in file order, live."""
        return [
            array.reshape(shape)
            for array, shape in zip(self._arrays, self.shapes, strict=True)
        ]

    def check(self, arrays: Sequence[Array], origin: str) -> None:
        """Raise SnapshotError, listing every misfit, unless `load` can take them."""
        if len(arrays) != len(self._arrays):
            msg = (
                f"{origin}: it holds {len(arrays)} history blobs, the solver needs "
                f"{len(self._arrays)}: it is of another net or solver type"
            )
            raise SnapshotError(msg)
        problems = [
            f"history {i} ({name}): the solver has {shape}, the file {array.shape}"
            for i, (name, shape, array) in enumerate(
                zip(self._names, self.shapes, arrays, strict=True)
            )
            if not _fits(array.shape, shape)
        ]
        if problems:
            msg = (
                f"{origin}: {len(problems)} history blob(s) do not fit the net: "
                + "; ".join(problems)
            )
            raise SnapshotError(msg)

    def load(self, arrays: Sequence[Array]) -> None:
        """Take values that `check` accepted."""
        for own, array in zip(self._arrays, arrays, strict=True):
            own[...] = array.reshape(-1)

    def is_zero(self, slot: int) -> bool:
        """Whether nothing has been learned about this parameter."""
        return not any(array.any() for array in self._per_slot[slot])


def _fits(stored: Shape, wanted: Shape) -> bool:
    """Whether shapes agree but for axes of length 1 (old files have four axes)."""
    return [n for n in stored if n != 1] == [n for n in wanted if n != 1]
